"""The code of the pipeline beside a saved model, so that `pipeline` needs no package (trust_remote_code)."""

import json
import os
import re
from pathlib import Path

# Named as in `MSMAMLConfig`, which says who reads it.
CONFIG_FILE, TASK, PIPELINE = "config.json", "few-shot-classification", "few_shot_pipeline"
# Imports of this package, as transformers finds them too: dots, folders, and the module.
_IMPORT = re.compile(r"^(\s*from )(\.+(?:\w+\.)*)(\w+)( import)", re.MULTILINE)
_NAMED = """

if TYPE_CHECKING:  # transformers fetches the modules that are named here
    {imports}
"""


def add_pipeline_code(folder: str | os.PathLike) -> None:
    """
    Adds to the folder of a saved model the code of the pipeline and of the classifier, and says so in its config.

    transformers carries the modules of one folder alone, so they are written side by side, and what they import from
    other folders of this package they import from their own. The code of model and processor stays the same.

    Args:
        folder: with a `config.json`, whose `custom_pipelines` is set.
    """
    folder = Path(folder)
    for name, source in pipeline_code().items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    implementation = {"impl": f"{PIPELINE}.FewShotClassificationPipeline", "pt": ["AutoModel"], "type": "multimodal"}
    content = json.dumps(config | {"custom_pipelines": {TASK: implementation}}, indent=2, sort_keys=True)
    (folder / CONFIG_FILE).write_text(content + "\n", encoding="utf-8")


def pipeline_code() -> dict[str, str]:
    """
    The modules that the pipeline needs, by name, as they work in one folder. Read from such a folder, which a saved
    model may be, they are the same.
    """
    written: dict[str, str] = {}
    waiting = [Path(__file__).parent / f"{PIPELINE}.py"]
    while waiting:
        path = waiting.pop()
        if path.stem in written:
            continue
        source = path.read_text(encoding="utf-8")
        waiting += [_file_of(match[2], match[3], path) for match in _IMPORT.finditer(source)]
        written[path.stem] = _IMPORT.sub(r"\1.\3\4", source)
    named = {match[3] for match in _IMPORT.finditer(written[PIPELINE])}
    if missing := sorted(written.keys() - named - {PIPELINE}):
        imports = "\n    ".join(f"from .{name} import __name__ as _{name}  # noqa: F401" for name in missing)
        written[PIPELINE] += _NAMED.format(imports=imports)
    return written


def _file_of(way: str, name: str, importing: Path) -> Path:
    """The file of a module that is imported from `way`, which is dots and folders."""
    folders = way.lstrip(".")
    start = importing.parents[len(way) - len(folders) - 1]
    return start.joinpath(*folders.split(".")) / f"{name}.py"

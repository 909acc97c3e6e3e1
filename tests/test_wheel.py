"""The wheel is enough: it is installed without the repository, and what is run starts in an empty folder, offline."""

import json
import re
import shutil
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from .own_data import write_file
from .wheel_environment import WheelEnvironment, built, required

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("modeling_msmaml", "data_builders", "msmaml")
DATA = {"pretrained": "modeling_msmaml/pretrained", "configs": "msmaml/configs"}
MOST_BYTES = 100_000_000  # what PyPI takes
# What a person who only classifies need not install.
NOT_FOR_CLASSIFICATION = {"accelerate", "datasets", "evaluate", "gensim", "gradio", "matplotlib", "tensorboard"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing that a build leaves behind lies in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__")
    for name in (*PACKAGES, *DATA):
        shutil.copytree(REPOSITORY / name, folder / "source" / name, ignore=ignored)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(REPOSITORY / name, folder / "source")
    wheel = built(folder / "source", folder)
    shutil.rmtree(folder / "source")
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


@pytest.fixture(scope="module")
def for_classification(wheel, metadata, tmp_path_factory):
    return WheelEnvironment(tmp_path_factory.mktemp("plain"), wheel, metadata.get_all("Requires-Dist"))


@pytest.fixture(scope="module")
def for_training(wheel, metadata, tmp_path_factory):
    return WheelEnvironment(tmp_path_factory.mktemp("train"), wheel, metadata.get_all("Requires-Dist"), ["train"])


def test_what_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "msmaml = msmaml.__main__:main" in archive.read(points).decode()
    for package in PACKAGES:
        own = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / package).rglob("*.py")}
        assert own <= names and f"{package}/py.typed" in names
    for folder, place in DATA.items():
        files = [path for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
        assert files and {f"{place}/{path.relative_to(REPOSITORY / folder).as_posix()}" for path in files} <= names
    assert {"data_builders/splits/esc50.json", "modeling_msmaml/hub/model_card_template.md"} <= names
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert wheel.stat().st_size < MOST_BYTES


def test_what_an_index_shows(metadata):
    for field in (
        "Author",
        "Classifier",
        "Keywords",
        "License-Expression",
        "Project-URL",
        "Requires-Python",
        "Summary",
    ):
        assert metadata[field], field
    assert set(metadata.get_all("Provides-Extra")) >= {"bench", "test", "train", "web"}
    requirements = metadata.get_all("Requires-Dist")
    alone = required(requirements)
    assert "torch" in alone and not NOT_FOR_CLASSIFICATION & alone.keys()
    assert {"datasets", "gensim", "matplotlib"} <= required(requirements, ["train"]).keys()
    assert {"gradio", "matplotlib"} <= required(requirements, ["web"]).keys()


def test_the_examples_of_the_readme_run(for_classification, tmp_path):
    page = (REPOSITORY / "README.md").read_text()
    examples = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(examples) == 3
    code, printed = ("\n".join(parts) for parts in zip(*examples, strict=True))
    assert for_classification.run(tmp_path, "python", "-c", code) == printed.replace("\n\n", "\n")
    assert list(tmp_path.iterdir()) == [], "nothing is fetched or cached"


@pytest.mark.parametrize("kind", ["audio", "text", "image"])
def test_the_command_classifies_files(kind, for_classification, tmp_path):
    for number, name in enumerate(("one", "two")):
        write_file(kind, tmp_path / "examples" / name, number, 0)
    query = write_file(kind, tmp_path, 0, 1)
    output = for_classification.run(
        tmp_path, "msmaml", "classify", "--support", "examples", "--query", query.name, "--json"
    )
    assert json.loads(output)["file"] == query.name and json.loads(output)["class"] in ("one", "two")


def test_what_the_installation_says_of_itself(for_classification, metadata, tmp_path):
    version = metadata["Version"]
    assert for_classification.run(tmp_path, "msmaml", "--version").strip() == f"msmaml {version}"
    shown = for_classification.run(
        tmp_path, "python", "-c", "import msmaml; print(msmaml.__version__, msmaml.__file__)"
    )
    assert shown.startswith(version) and str(for_classification.folder) in shown
    model = re.search(r"^model +(\S+)", for_classification.run(tmp_path, "msmaml", "info"), re.MULTILINE)
    assert model is not None
    assert model[1].startswith(str(for_classification.folder)) and model[1].endswith("pretrained/msmaml-base")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("msmaml", "train", "quickstart"), r"train: .*: pip install 'msmaml\[train\]'"),
        (("msmaml", "web"), r"web: the page needs gradio: pip install 'msmaml\[web\]'"),
        (("msmaml", "completion", "bash"), r"completion: it needs shtab: pip install 'msmaml\[completion\]'"),
        (("python", "-c", "from msmaml import load_few_shot"), r"needs \w+, .*: pip install 'msmaml\[train\]'"),
    ],
    ids=["train", "web", "completion", "Python"],
)
def test_what_an_extra_brings_names_the_extra(command, message, for_classification, tmp_path):
    assert re.search(message, for_classification.run(tmp_path, *command, status=1))


def test_configs_are_known_by_name(for_training, tmp_path):
    options = {"max_steps": 1, "num_test_episodes": 2, "num_inner_steps": 1, "output_dir": "out", "use_cpu": "true"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    table = for_training.run(tmp_path, "msmaml", "train", "quickstart", *words, "--cache_dir", tmp_path / "cache")
    assert "image" in table and (tmp_path / "out" / "model.safetensors").is_file()

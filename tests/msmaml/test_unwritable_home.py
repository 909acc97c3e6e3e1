"""A user whose home and caches cannot be written, not even by root: folders below /sys stand for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..own_data import save_tiny_model, write_file

REPOSITORY = Path(__file__).resolve().parents[2]
NOWHERE = "/sys/msmaml_home"


def nowhere_can_be_made() -> bool:
    try:
        os.mkdir(NOWHERE)
    except OSError:
        return True
    os.rmdir(NOWHERE)
    return False


pytestmark = pytest.mark.skipif(not nowhere_can_be_made(), reason=f"{NOWHERE} can be made here")


def run(tmp_path: Path, code: str) -> tuple[int, str]:
    """Runs Python in a process whose HOME and caches are nowhere: (exit status, what it printed)."""
    dropped = ("HF_", "XDG_", "MSMAML_MODEL", "MPLCONFIGDIR", "TORCH_HOME")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    environment |= {"HOME": NOWHERE, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    return done.returncode, done.stdout + done.stderr


def test_what_needs_no_cache_works(tmp_path):
    save_tiny_model(tmp_path / "model", num_inner_steps=2)
    for kind, name in enumerate(("crow", "wren")):
        write_file("text", tmp_path / "support" / name, kind, 0)
        write_file("text", tmp_path / "query", kind, 1)
    status, said = run(
        tmp_path,
        """
from pathlib import Path
from msmaml import FewShotClassifier
from msmaml.__main__ import main
from msmaml.web.page import build
from msmaml.web.page_limits import PageLimits
from msmaml.web.page_service import PageService
from msmaml.web.worker_pool import WorkerPool
texts = ["word0 word1", "word5 word6"]
FewShotClassifier.from_pretrained("model").fit(texts, ["a", "b"]).save_pretrained("classifier")
print(FewShotClassifier.from_pretrained("classifier").predict(texts))
pool = WorkerPool("model", Path("downloads"), PageLimits(workers=1))
page = build(PageService(pool, Path("downloads")))
page.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
page.close()
pool.close()
main(["classify", "--model", "model", "--support", "support", "--query", "query", "--output", "found.csv"])
        """,
    )
    assert status == 0, said
    assert len((tmp_path / "found.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "code",
    [
        "from data_builders import load_few_shot; load_few_shot('synthetic:text')",
        "from data_builders import load_few_shot; load_few_shot('hub:texts')",
        "import run_meta; run_meta.main([CONFIG, '--output_dir', 'run', '--max_steps', '1', '--num_channels', '2'])",
    ],
    ids=["a data set", "a folder of texts", "a run"],
)
def test_what_needs_one_says_what_to_set(tmp_path, code):
    for kind, name in enumerate(("crow", "wren")):
        write_file("text", tmp_path / "texts" / name, kind, 0)
    config = REPOSITORY / "configs" / "quickstart.yaml"
    status, said = run(tmp_path, code.replace("CONFIG", repr(str(config))))
    last = said.strip().splitlines()[-1]
    assert status != 0 and NOWHERE in last, said
    assert "cache_dir" in last or "HF_HOME" in last, last

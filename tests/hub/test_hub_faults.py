"""
What a Hub that fails does to those who load from it: they go on, or say what to do, and use nothing that is damaged.
"""

import json
import re

import pytest

from ..fake_hub import TOKEN, FakeHub
from ..hub_faults import Fault, OtherHost
from ..own_data import save_tiny_model
from ..saved_levels import save_level_model
from .test_hub import client

# Waits between attempts are noted and cut short, and a silent server is given up after three seconds. `tried` begins
# with an empty cache, and returns what a call gives or its error, with the waits and the time that it took.
TOOLS = """
import os, shutil, time
pauses, really = [], time.sleep
time.sleep = lambda seconds: (pauses.append(seconds), really(min(seconds, 0.01)))
from modeling_msmaml import FewShotClassifier, MSMAMLModel
from modeling_msmaml.inference import base_model
from modeling_msmaml.model import hub_files, level_frontend
hub_files.LONGEST_SILENCE = 3.0
def probabilities(name):
    return FewShotClassifier.from_pretrained(name).predict_proba(["word1 word2"]).tolist()
def tried(call, *arguments, keep=False):
    if not keep:
        shutil.rmtree(os.environ["HF_HUB_CACHE"], ignore_errors=True)
    base_model._loaded.cache_clear()
    level_frontend._read_described.cache_clear()
    pauses.clear()
    start = time.monotonic()
    try:
        found = {"found": call(*arguments)}
    except (Exception, SystemExit) as caught:
        found = {"error": f"{type(caught).__name__}: {caught}"}
    return found | {"pauses": list(pauses), "seconds": time.monotonic() - start}
"""
FILES = (
    *("config.json", "model.safetensors", "few_shot_classifier.json", "few_shot_classifier.safetensors"),
    *("processor_config.json", "tokenizer.json", "encoders/text/encoder.safetensors"),
)
KINDS = (500, 503, 429, "drop", "cut", "short", "altered", "page")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub with a fitted classifier on levels, `someone/letters`, and a client whose patience is short."""
    folder = tmp_path_factory.mktemp("faults")
    save_level_model(folder / "model", folder / "encoders")
    with FakeHub() as hub, OtherHost(hub) as other:
        hub.elsewhere, usual = other.url, hub.environment
        short = {"HF_HUB_DOWNLOAD_TIMEOUT": "3", "HF_HUB_ETAG_TIMEOUT": "3"}
        hub.environment = lambda home, token=TOKEN: usual(home, token) | short
        client(
            hub,
            folder / "home",
            f"""
            from modeling_msmaml import FewShotClassifier
            classifier = FewShotClassifier("{folder / "model"}").fit(["word1 word2", "word3", "word5"], ["a", "a", "b"])
            classifier.push_to_hub("someone/letters")
            """,
        )
        yield hub, other, folder


def loads(hub, home, faults: dict[str, Fault]) -> dict:
    """Loads copies of `someone/letters`, one for each fault by its name; the second attempt finds no fault."""
    files = hub.files("someone/letters")
    for name, fault in faults.items():
        hub.commit(f"someone/{name}", files)
        hub.faults.append(fault)
    found = client(
        hub,
        home,
        f"{TOOLS}\nfor name in {['letters', *faults]}:\n    result[name] = tried(probabilities, 'someone/' + name)",
    )
    hub.faults.clear()
    return found


def of_file(name: str, file: str) -> str:
    return f"^/someone/{name}/resolve/[^/]+/{re.escape(file)}$"


def test_a_fault_that_passes_is_survived(hub, tmp_path):
    hub, _, _ = hub
    faults = {}
    for number, kind in enumerate([*KINDS, "stall"]):
        name, file = f"once-{kind}", FILES[number % len(FILES)]
        headers = {"Retry-After": "7"} if kind in (429, 503) else {}
        methods = ("GET",) if kind in ("short", "cut", 503, 429, 500) else ("GET", "HEAD")
        faults[name] = Fault(of_file(name, file), kind, 1, methods, headers)
    faults["asked"] = Fault("^/api/models/someone/asked$", 503, 1, headers={"Retry-After": "7"})
    found = loads(hub, tmp_path, faults)
    expected = found.pop("letters")["found"]
    assert {name: own.get("found", own.get("error")) for name, own in found.items()} == dict.fromkeys(faults, expected)
    assert found["asked"]["pauses"] == [7] and 8.0 in found["once-429"]["pauses"]  # as asked for, or a second more


def test_a_fault_that_stays_is_said_with_repository_file_and_remedy(hub, tmp_path):
    hub, _, _ = hub
    faults = {f"all-{kind}": (kind, FILES[number % len(FILES)]) for number, kind in enumerate(KINDS)}
    faults |= {f"file-{number}": (500, file) for number, file in enumerate(FILES)}
    faults |= {f"short-{number}": ("short", file) for number, file in enumerate(FILES)}
    faults |= {f"altered-{number}": ("altered", file) for number, file in enumerate(FILES)}
    found = loads(hub, tmp_path, {name: Fault(of_file(name, file), kind) for name, (kind, file) in faults.items()})
    for name, (kind, file) in faults.items():
        said = found[name].get("error", "")
        assert said.startswith("NotFetched: "), (kind, file, found[name])
        assert f"{file} of someone/{name}" in said and "Run again" in said, (kind, file, said)
        assert TOKEN not in said and found[name]["seconds"] < 20, (kind, file)


def test_nothing_damaged_is_left_in_the_cache_nor_taken_from_it(hub, tmp_path):
    """A file that is damaged while it lies in the cache, and the same without a network, where there is no other."""
    hub, _, _ = hub
    found = client(
        hub,
        tmp_path,
        TOOLS
        + """
from pathlib import Path
from huggingface_hub import constants
def cached(file):
    folder = Path(os.environ["HF_HUB_CACHE"], "models--someone--letters")
    found = list(folder.glob("snapshots/*/" + file))
    if len(found) != 1:
        raise RuntimeError(file + " is not in the cache: " + json.dumps(result))
    return found[0]
result["expected"] = tried(probabilities, "someone/letters")
for file in FILES:
    place = cached(file)
    content = place.read_bytes()
    place.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result[file] = tried(probabilities, "someone/letters", keep=True)
    place = cached(file)
    place.resolve().write_bytes(content[: len(content) // 2])
    constants.HF_HUB_OFFLINE = True
    result["offline " + file] = tried(probabilities, "someone/letters", keep=True)
    constants.HF_HUB_OFFLINE = False
    result["left " + file] = place.exists()
    tried(probabilities, "someone/letters")
        """.replace("FILES", repr(FILES)),
    )
    expected = found["expected"]["found"]
    for file in FILES:
        assert found[file].get("found") == expected, (file, found[file])
        assert f"{file} of someone/letters was damaged" in found[f"offline {file}"].get("error", ""), (file, found)
        assert not found[f"left {file}"]


def test_a_redirect_to_another_host_is_followed_without_the_token(hub, tmp_path):
    hub, other, _ = hub
    found = loads(hub, tmp_path, {"led": Fault("^/someone/led/resolve/.*safetensors$", "redirect")})
    assert found["led"]["found"] == found["letters"]["found"]
    assert sorted({path.rpartition("/")[2] for _, path, _ in other.seen}) == sorted(
        {file.rpartition("/")[2] for file in FILES if file.endswith(".safetensors")}
    )
    assert not [headers for _, _, headers in other.seen if "authorization" in headers]
    assert TOKEN not in json.dumps([found, other.seen])


PASSING = (
    *((500, "commit"), (429, "commit"), ("drop", "commit"), ("late", "commit"), ("drop", "lfs/"), ("stall", "lfs/")),
    *((503, "preupload"),),
)
STAYING = ((500, "commit"), ("drop", "lfs/"), ("stall", "commit"), ("redirect", "commit"))


def test_pushes_go_on_or_say_what_failed(hub, tmp_path):
    """Models, classifiers and folders; the repository holds what it held, or all of what was pushed."""
    hub, other, _ = hub
    other.seen.clear()
    run = save_tiny_model(tmp_path / "run")
    calls = ("model.push_to_hub", "classifier.push_to_hub", "command")
    former = {"config.json": b"former"}
    cases: dict[str, tuple[int | str, str, int | None, str]] = {}
    for number, (kind, part) in enumerate(PASSING + STAYING):
        times = 1 if number < len(PASSING) else None
        cases[f"push-{number}"] = kind, part, times, calls[number % 3]
    for name, (kind, part, times, _) in cases.items():
        hub.commit(f"someone/{name}", former)
        where = f"^/lfs/someone/{name}/" if part == "lfs/" else f"someone/{name}[./].*{part}"
        headers = {"Retry-After": "3"} if kind in (429, 503) else {}
        hub.faults.append(Fault(where, kind, times, ("POST", "PUT"), headers))
    lines = "\n".join(f"result[{name!r}] = tried({call}, 'someone/{name}')" for name, (*_, call) in cases.items())
    found = client(
        hub,
        tmp_path / "home",
        f"""{TOOLS}
from msmaml.commands import push
model = MSMAMLModel.from_pretrained("{run}")
classifier = FewShotClassifier("{run}").fit(["word1 word2", "word3", "word5"], ["a", "a", "b"])
command = lambda name: push.main(["{run}", name])
{lines}
        """,
    )
    hub.faults.clear()
    for name, (kind, part, times, call) in cases.items():
        case, own, files = (kind, part, call), found[name], hub.files(f"someone/{name}")
        said = own.get("error", "")
        assert TOKEN not in said and own["seconds"] < 60, case
        if times == 1:
            assert "error" not in own, (case, said)
        if "error" in own:
            assert files == former, case
            assert kind == "redirect" or f"someone/{name}" in said, (case, said)
            assert kind == "redirect" or "RuntimeError" not in said, (case, said)
        else:
            assert "model.safetensors" in files and files["config.json"] != b"former", case
    assert all("error" in found[name] for name, (*_, times, _) in cases.items() if times is None)
    assert other.seen and not [headers for *_, headers in other.seen if "authorization" in headers]

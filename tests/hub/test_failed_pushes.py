"""Uploads that fail during a run and after it: nothing is lost, and the command that the run names repeats them."""

import json
import re
import shlex

import pytest

from modeling_msmaml.training.checkpoints import why_incomplete

from ..fake_hub import FakeHub
from ..hub_faults import Fault
from ..msmaml.test_run_meta import options
from .test_hub import client

# The repository -> what its commits are answered with: an error of the server, no rights, a connection that breaks.
FAILURES = {"server": 500, "rights": 403, "network": "drop"}


@pytest.fixture(scope="module")
def unpushed(tmp_path_factory):
    """Runs that push every checkpoint, to a Hub that takes none; then the commands they name, to one that does."""
    home = tmp_path_factory.mktemp("unpushed")
    runs = {
        name: options(
            output_dir=home / name,
            max_steps=2,
            save_strategy="steps",
            save_steps=1,
            do_predict=True,
            push_to_hub=True,
            hub_model_id=f"someone/{name}",
            hub_strategy="checkpoint",
            hub_always_push=True,
            num_channels=2,
        )
        for name in FAILURES
    }
    with FakeHub() as hub:
        hub.faults = [Fault(f"someone/{name}/commit", kind) for name, kind in FAILURES.items()]
        failed = client(
            hub,
            home,
            f"""
            import contextlib, io, logging
            import run_meta

            for name, arguments in {runs!r}.items():
                result[name] = {{"status": 0}}
                logging.getLogger().handlers.clear()
                with contextlib.redirect_stderr(io.StringIO()) as said:
                    try:
                        run_meta.main(["configs/quickstart.yaml", *arguments])
                    except SystemExit as stop:
                        result[name]["status"] = stop.code
                result[name]["said"] = said.getvalue()
            """,
        )
        before = {name: set(hub.files(f"someone/{name}")) for name in FAILURES}
        hub.faults = []
        commands = {name: re.search(r"To upload them: msmaml (.+)", own["said"])[1] for name, own in failed.items()}
        repeated = client(
            hub,
            home,
            f"""
            from msmaml.__main__ import main
            result["status"] = [main(argv) for argv in {[shlex.split(command) for command in commands.values()]!r}]
            """,
        )
        yield home, hub, failed, before, repeated


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_push_loses_nothing_of_the_run(unpushed, name):
    home, _, failed, before, _ = unpushed
    folder, own = home / name, failed[name]
    assert own["status"] == 3 and not before[name]
    assert own["said"].count("a checkpoint was not pushed to") == 4  # at two meta-steps, model and last-checkpoint
    assert re.search(rf"train: the run is complete.* someone/{name} was not changed", own["said"])
    results = json.loads((folder / "all_results.json").read_text())
    assert results["test_episodes"] and "train_loss" in results
    card = (folder / "README.md").read_text()
    assert "| training steps | 2 |" in card and "test" in card
    assert (folder / "model.safetensors").is_file() and why_incomplete(folder / "checkpoint-2") is None


@pytest.mark.parametrize("name", FAILURES)
def test_the_command_that_a_failed_push_names_repeats_it(unpushed, name):
    home, hub, _, _, repeated = unpushed
    assert repeated["status"] == [0] * len(FAILURES)
    files = hub.files(f"someone/{name}")
    for path in ("README.md", "all_results.json", "model.safetensors", "config.json"):
        assert files[path] == (home / name / path).read_bytes()


def test_a_repository_that_cannot_be_made_is_said_before_training(tmp_path):
    arguments = options(output_dir=tmp_path / "run", push_to_hub=True, hub_model_id="someone/none", num_channels=2)
    with FakeHub() as hub:
        hub.faults = [Fault("/api/repos/create", "drop")]
        found = client(
            hub,
            tmp_path,
            f"""
            import run_meta
            result["error"] = error(run_meta.main, ["configs/quickstart.yaml", *{arguments!r}])
            """,
        )
    assert re.match(
        r"OSError: push_to_hub=True, but the repository someone/none cannot be written to: ", found["error"]
    )
    assert "msmaml push" in found["error"] and not (tmp_path / "run" / "model.safetensors").exists()

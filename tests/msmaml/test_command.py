"""The command `msmaml` and the package of this name, of which each loads no more than it needs."""

import re
import subprocess
import sys

import pytest

import data_builders
import modeling_msmaml
import msmaml
from msmaml.__main__ import commands, main
from msmaml.commands import evaluate, push, train, web

from ..fake_hub import FakeHub
from ..hub.test_hub import client
from ..level_models import save_level_model
from ..own_data import save_tiny_model
from ..test_imports import in_new_process

HEAVY = ("torch", "transformers", "datasets", "sklearn")


def test_package_and_help_load_nothing_and_take_no_time():
    for statement, most in (
        ("import msmaml", 0.3),
        ("from msmaml.__main__ import main; main(['--help'])", 0.5),
        ("from msmaml.__main__ import main; main(['--version'])", 0.5),
        ("from msmaml.__main__ import main\ntry: main(['classify', '--help'])\nexcept SystemExit: pass", 0.5),
    ):
        code = f"""
import json, sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "loaded": [name for name in {HEAVY!r} if name in sys.modules]}}))
"""
        found = [in_new_process(code) for _ in range(3)]
        assert not found[0]["loaded"]
        assert min(one["seconds"] for one in found) < most, (statement, found)


def test_public_names_of_both_packages_are_those_of_msmaml():
    names = {}
    exec("from msmaml import *", names)
    for package in (modeling_msmaml, data_builders):
        for name in package.__all__:
            assert getattr(msmaml, name) is getattr(package, name) is names[name]
            assert name in dir(msmaml)
    with pytest.raises(AttributeError, match="module 'msmaml' has no attribute 'Classifier'"):
        msmaml.Classifier  # noqa: B018
    assert "__version__" in dir(msmaml)


def test_help_lists_every_command_with_its_first_line(capsys):
    assert set(commands()) >= {"classify", "evaluate", "info", "push", "train", "web"}
    for argv in (["--help"], ["-h"], []):
        assert main(argv) == 0
        printed = capsys.readouterr().out
        for name, does in commands().items():
            assert does.endswith(".") and f"  {name:<10} {does}" in printed
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"msmaml {msmaml.__version__}\n"


def test_an_unknown_command_is_refused_with_the_known_ones(capsys):
    assert main(["clasify"]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert "there is no command 'clasify'; did you mean 'classify'?" in captured.err and "  evaluate " in captured.err


@pytest.mark.parametrize("name", commands())
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as status:
        main([name, "--help"])
    assert status.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: msmaml {name} ") and f"msmaml {name} " in printed.rpartition("example")[2]


def test_evaluating_is_training_without_training(monkeypatch):
    given = []
    monkeypatch.setattr(train, "main", lambda argv, command: given.append((argv, command)))
    evaluate.main(["run.yaml", "--model_name_or_path", "x", "--do_eval", "true"])
    evaluate.main(["--model_name_or_path", "x"])
    with pytest.raises(SystemExit, match="evaluate: --do_train=true is not for this command"):
        evaluate.main(["--model_name_or_path", "x", "--do_train=true"])
    added = ["--do_train", "false", "--do_predict", "true"]
    assert given == [
        (["run.yaml", *added, "--model_name_or_path", "x", "--do_eval", "true"], "evaluate"),
        ([*added, "--model_name_or_path", "x"], "evaluate"),
    ]


def test_messages_name_the_command(tmp_path):
    for name in ("train", "evaluate"):
        with pytest.raises(SystemExit, match=f"{name}: there is no config file"):
            main([name, str(tmp_path / "missing.yaml")])


def test_web_without_gradio_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delattr("msmaml.web.page", raising=False)
    for name in [name for name in sys.modules if name.startswith("msmaml.web.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit, match=r"web: the page needs gradio: pip install 'msmaml\[web\]'"):
        web.main([])


def test_info_shows_versions_device_and_model(monkeypatch, capsys):
    monkeypatch.setenv("MSMAML_MODEL", "someone/model")
    assert main(["info"]) == 0
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert facts["msmaml"] == msmaml.__version__ and facts["model"] == "someone/model"
    assert {"torch", "transformers", "device"} <= set(facts)


def test_info_shows_encoders_and_licences(tmp_path, capsys):
    folder = save_level_model(tmp_path)
    (folder / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# A card\n")
    assert main(["info", "--model", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^licence +cc-by-4.0$", printed, re.MULTILINE)
    for modality in ("audio", "text", "image"):
        assert re.search(rf"^{modality} encoder +\S.*, unknown$", printed, re.MULTILINE)
    with pytest.raises(SystemExit, match="info: model=.*nowhere.* is neither a folder nor"):
        main(["info", "--model", str(tmp_path / "nowhere")])


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_completes_commands_and_options(shell, tmp_path, capsys):
    assert main(["completion", shell]) == 0
    script = tmp_path / "msmaml"
    script.write_text(capsys.readouterr().out)
    if shell == "zsh":
        assert script.read_text().startswith("#compdef msmaml") and "--skip-errors" in script.read_text()
        return
    for typed, expected in (
        ("cla", "classify"),
        ("classify --skip-e", "--skip-errors"),
        ("train --max_st", "--max_steps"),
    ):
        words = typed.split()
        code = f"source {script}; COMP_WORDS=(msmaml {typed}); COMP_CWORD={len(words)}"
        code += f"; _shtab_msmaml msmaml {words[-1]}; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=30)
        assert done.stdout.split() == [expected], done.stderr


def test_completion_without_its_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit, match=r"completion: it needs shtab: pip install 'msmaml\[completion\]'"):
        main(["completion", "bash"])


def test_a_folder_without_a_model_is_not_pushed(tmp_path):
    with pytest.raises(SystemExit, match="push: .* holds no config.json: name the folder of a saved model"):
        push.main([str(tmp_path), "someone/model"])


def test_a_folder_is_pushed_with_its_card_and_without_checkpoints(tmp_path):
    folder = save_tiny_model(tmp_path / "model", num_inner_steps=1)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A card\n")
    (folder / "checkpoint-2").mkdir()
    (folder / "checkpoint-2" / "config.json").write_text("{}")
    (folder / "_unfinished" / "checkpoint-3").mkdir(parents=True)
    (folder / "_unfinished" / "checkpoint-3" / "optimizer.pt").write_text("half")
    with FakeHub() as hub:
        result = client(
            hub,
            tmp_path / "home",
            f"""
            import contextlib, io
            from msmaml.__main__ import main

            with contextlib.redirect_stdout(io.StringIO()) as printed:
                result["status"] = main(["push", {str(folder)!r}, "someone/pushed"])
            result["printed"] = printed.getvalue()
            """,
        )
        files = hub.files("someone/pushed")
    assert result["status"] == 0 and "someone/pushed" in result["printed"]
    assert {"README.md", "config.json", "model.safetensors"} <= set(files)
    assert not [name for name in files if name.startswith(("checkpoint-", "_unfinished"))]
    assert b"# A card" in files["README.md"]

"""The benchmark of cold processes: what it runs, counts and refuses."""

import re
import sys

import pytest

from benchmarks import first_ten_minutes
from benchmarks.first_ten_minutes import ANSWERS, Program, took

COMMAND = """#!{python}
import sys
from pathlib import Path
if sys.argv[1] == "classify":
    answers = iter({answers!r})
    for name in sys.argv[sys.argv.index("--query") + 1 :]:
        assert Path(name).read_text()
        print(name, next(answers))
elif sys.argv[1] == "-c":
    print(*{answers!r})
else:
    print("msmaml classify")
"""


@pytest.fixture
def command(tmp_path):
    """Makes a program that is called as the command is, with these answers."""

    def made(answers, folder=tmp_path):
        program = folder / "msmaml"
        program.write_text(COMMAND.format(python=sys.executable, answers=answers))
        program.chmod(0o755)
        return str(program)

    return made


def test_each_program_is_timed_in_each_round(command, capsys):
    found = first_ten_minutes.main(["--command", command(ANSWERS), "--rounds", "2", "--threads", "1", "2"])
    assert list(found) == [1, 2]
    for measured in found.values():
        assert [len(rounds) for rounds in measured.values()] == [2, 2, 2]
        assert all(one.cpu > 0 and one.wall > 0 for rounds in measured.values() for one in rounds)
    rows = re.findall(
        r"^\| `msmaml (.*?)`.*\d\.\d\d \(.*\) \| \d\.\d\d \(.*\) \|$", capsys.readouterr().out, re.MULTILINE
    )
    assert rows == ["--help", "--version", "classify"] * 2


def test_a_peer_must_give_the_right_answers_too(command, tmp_path):
    """Either of them; a program stands for its Python."""
    right = command(ANSWERS)
    for option in ("--peer", "--setfit"):
        found = first_ten_minutes.main(
            ["--command", right, option, right, "--encoder", str(tmp_path), "--rounds", "1", "--threads", "1"]
        )
        assert len(found[1]) == 4
    (tmp_path / "other").mkdir()
    wrong = command(["sport"] * 5, tmp_path / "other")
    with pytest.raises(RuntimeError, match="ended with status 0: sport sport"):
        first_ten_minutes.main(["--command", right, "--setfit", wrong, "--encoder", str(tmp_path), "--rounds", "1"])


def test_wrong_answers_have_no_time(command):
    with pytest.raises(RuntimeError, match="ended with status 0: queries/butter.txt sport"):
        first_ten_minutes.main(["--command", command(["sport"] * 5), "--rounds", "1"])


@pytest.mark.parametrize(
    "rest", [["--peer", "python"], ["--setfit", "python"], ["--encoder", "folder"], ["--rounds", "0"]], ids=" ".join
)
def test_what_cannot_be_measured_is_refused(rest, capsys):
    with pytest.raises(SystemExit):
        first_ten_minutes.main(rest)
    assert " ".join(rest) in capsys.readouterr().err


def test_words_must_come_in_their_order(tmp_path):
    in_order = Program([sys.executable, "-c", "print('a x b')"], ["a", "b"])
    assert took(in_order, tmp_path, 1).wall > 0
    with pytest.raises(RuntimeError):
        took(in_order._replace(expected=["b", "a"]), tmp_path, 1)

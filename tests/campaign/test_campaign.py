"""A short campaign, and that it would notice what it looks for."""

import pytest

from modeling_msmaml.inference import classifier_files

from . import trials, works
from .__main__ import main


def test_a_short_campaign_loses_nothing(capsys, tmp_path):
    """The works that take no more than a second; `make campaign` has all, and more trials."""
    chosen = ["build a data set", "store levels", "save a classifier", "push a model"]
    code = main(["--trials", "2", "--seed", "1", "--folder", str(tmp_path / "campaign"), "--works", *chosen])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    rows = [line.strip("| ").split(" | ") for line in printed.out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [[name, fault] for name in chosen for fault in works.WORKS[name].faults]
    for _, _, tried, survived, lost, missed in rows:
        assert int(tried) == int(survived) and int(lost) == 0 and int(tried) + int(missed) == 2


def test_what_is_mixed_or_differs_is_lost(tmp_path):
    """A work that leaves a half file which is taken for whole, and one that ends differently when it goes on."""
    (tmp_path / "place").mkdir()
    mixed = works.Work(_write_new, _text, before=_write_old)
    (tmp_path / "place" / "text").write_text("ne")
    problem = trials._problem(mixed, tmp_path, tmp_path / "place", "old", "new")
    assert problem is not None and "neither the former nor the new" in problem
    differs = works.Work(_write_new, _text)
    problem = trials._problem(differs, tmp_path, tmp_path / "place", None, "other")
    assert problem is not None and "ended differently" in problem


def _write_old(shared, folder):
    (folder / "text").write_text("old")


def _write_new(shared, folder):
    (folder / "text").write_text("new")


def _text(shared, folder):
    return (folder / "text").read_text()


def test_a_classifier_is_not_mixed_with_the_former(tmp_path, monkeypatch):
    """Saving stops after each of its files in turn; the folder holds another classifier of the same shape."""
    works.material(tmp_path / "shared")
    works.save_older_classifier(tmp_path / "shared", tmp_path)
    older = works.saved_classifier(tmp_path / "shared", tmp_path)

    def full(*arguments):
        raise OSError("no space left")

    for function in ("save_tasks", "os.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"{classifier_files.__name__}.{function}", full)
            with pytest.raises(OSError, match="no space left"):
                works.save_classifier(tmp_path / "shared", tmp_path)
        with pytest.raises(Exception, match="not fitted"):
            works.saved_classifier(tmp_path / "shared", tmp_path)
    works.save_classifier(tmp_path / "shared", tmp_path)
    assert works.saved_classifier(tmp_path / "shared", tmp_path) != older

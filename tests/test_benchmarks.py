"""The benchmarks' own checks, cut short."""

import pytest
import torch

from benchmarks import meta_step


def test_meta_step_checks_gradients_and_reports_every_contender(capsys, monkeypatch):
    monkeypatch.setattr(meta_step, "INFERENCE", (1, 2))
    monkeypatch.setenv(
        "OMP_NUM_THREADS", "1"
    )  # of the contenders' processes: on a busy machine two wait for each other
    meta_step.main(
        [
            "--modalities",
            "image",
            "--meta_batch",
            "1",
            "--num_inner_steps",
            "1",
            "--rounds",
            "2",
            "--contenders",
            "ours",
            "higher",
        ]
    )
    table = capsys.readouterr().out
    assert "| plain |" in table and "| ours |" in table and "| plain, float64 |" in table
    assert "times cheaper" in table and "| image | " in table
    assert "| higher |" in table or "higher is left out: No module named 'higher'" in table


def test_a_contender_with_another_gradient_is_refused():
    class Wrong:
        name = "wrong"

        def ask(self, order):
            return {"a": torch.ones(3), "b": torch.tensor([1.0, 1.001])}

    with pytest.raises(RuntimeError, match="wrong computes another outer gradient of b"):
        meta_step.check_gradients([Wrong()], {"a": torch.ones(3), "b": torch.ones(2)})


def test_tables_are_replaced_by_those_of_the_same_setting(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\n{meta_step.BEGIN}\n\n{meta_step.END}\n\nMore.\n")
    for table in ("### a\n\n1", "### b\n\n2", "### a\n\n3"):
        meta_step.write(table, page)
    assert page.read_text() == (
        f"# Title\n\n{meta_step.BEGIN}\n\n### a\n\n3\n\n### b\n\n2\n\n{meta_step.END}\n\nMore.\n"
    )
    page.write_text("# Title\n")
    with pytest.raises(ValueError, match="no place for tables"):
        meta_step.write("### a", page)

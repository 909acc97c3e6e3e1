"""The benchmarks' own checks, cut short."""

from benchmarks import meta_step


def test_meta_step_checks_gradients_and_reports_every_contender(capsys):
    meta_step.main(["--modalities", "image", "--meta_batch", "1", "--num_inner_steps", "1", "--rounds", "2"])
    table = capsys.readouterr().out
    assert "| plain |" in table and "| ours |" in table and "| plain, float64 |" in table

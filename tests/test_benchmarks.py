"""The benchmarks' own checks, cut short."""

import json

import numpy as np
import pytest
import torch

from benchmarks import classifier, front_ends, held_out_classes, meta_step
from data_builders import load_few_shot
from modeling_msmaml import MSMAMLConfig, MSMAMLModel, MSMAMLProcessor

from .conftest import REPOSITORY


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


def test_classifier_repeats_the_trainers_predictions(tmp_path, capsys):
    text, image = (load_few_shot(f"synthetic:{modality}", "test") for modality in ("text", "image"))
    model = MSMAMLModel(MSMAMLConfig(modalities=["text", "image"], num_channels=4, num_layers=2))
    model.set_input_embeddings(torch.nn.Embedding.from_pretrained(torch.from_numpy(text.word_vectors)))
    model.save_pretrained(tmp_path)
    processor = MSMAMLProcessor(tokenizer=text.tokenizer, image_processor=image.preprocessor)
    processor.save_pretrained(tmp_path)
    options = ["--datasets", "synthetic:text", "synthetic:image", "--episodes", "2", "--n_query", "2", "--threads", "1"]
    classifier.main(["--model", str(tmp_path), *options])
    printed = capsys.readouterr().out
    for modality in ("text", "image"):
        row = next(line for line in printed.splitlines() if line.startswith(f"| {modality} |")).split("|")
        assert row[2] == row[3] and row[4].strip() == "0 of 20"
    rows = torch.from_numpy(text.rows(np.arange(3)))
    assert len(classifier.as_given(rows, "text", processor)) == 3
    rows[1, 3] = 0  # padding within a text, which no string has
    with pytest.raises(ValueError, match="1 texts are tokenised otherwise than stored"):
        classifier.as_given(rows, "text", processor)


def test_calibration_error():
    confidence = np.asarray([0.9] * 10 + [0.5] * 10)
    right = np.asarray([True] * 9 + [False] + [True] * 2 + [False] * 8)
    assert classifier.calibration_error(confidence, right) == pytest.approx((0 + 0.3) / 2)


def test_settings_are_compared_on_classes_that_training_has_not_seen(monkeypatch, tmp_path):
    seen = {}

    def parts(modality, fold, data_dir):
        training, held_out = (load_few_shot(f"synthetic:{modality}", split) for split in ("train", "validation"))
        seen[modality] = fold
        return training, held_out

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(held_out_classes, "CONFIG", str(REPOSITORY / "configs/flagship.yaml"))
    monkeypatch.setattr(held_out_classes, "halves", parts)
    small = ["--max_steps", "2", "--warmup_steps", "0", "--train_n_way", "3", "--new_classes", "rotate"]
    held_out_classes.main(["--data_dir", "DATA", "--fold", "2", "--episodes", "4", "--json", "found.json", *small])
    found = json.loads((tmp_path / "found.json").read_text())
    assert seen == {"audio": 2, "text": 2, "image": 2} and found["seed"] == 2 and found["training_steps"] == 2
    assert set(found["accuracies"]) == {f"{m}_{k}shot" for m, shots in front_ends.SHOTS.items() for k in shots}
    assert found["options"].endswith("--new_classes rotate")
    with pytest.raises(SystemExit):
        held_out_classes.main(["--data_dir", "DATA", "--fold", "4"])

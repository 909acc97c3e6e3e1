"""The benchmarks' own checks, cut short."""

import json
import re
import shutil
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks.pages import parts_of
from benchmarks.speed import checkpointing, contenders, end_to_end, meta_step, where_time_goes
from benchmarks.speed.plain import plain_loss
from benchmarks.studies import classifier, front_ends, held_out_classes
from data_builders import load_few_shot
from modeling_msmaml import MSMAMLConfig, MSMAMLModel, MSMAMLProcessor

from ..conftest import REPOSITORY


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
    # Seconds, speed with quartiles, memory with quartiles.
    assert re.search(
        r"^\| ours \| [\d.]+ \| [\d.]+ \([\d.]+ to [\d.]+\) \| \d+ \(\d+ to \d+\) \| ", table, re.MULTILINE
    )
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
    begin, end = "<!-- meta step: begin -->", "<!-- meta step: end -->"
    page.write_text(f"# Title\n\n{begin}\n\n{end}\n\nMore.\n")
    for table in ("### a\n\n1", "### b\n\n2", "### a\n\n3"):
        meta_step.write(table, page)
    assert page.read_text() == f"# Title\n\n{begin}\n\n### a\n\n3\n\n### b\n\n2\n\n{end}\n\nMore.\n"
    page.write_text("# Title\n")
    with pytest.raises(ValueError, match="no place for this"):
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


@pytest.fixture
def page(tmp_path):
    return shutil.copy(REPOSITORY / "docs" / "benchmarks.md", tmp_path / "page.md")


def written(page, module) -> str:
    """What a command wrote into its place on a page, all else of which is as in the repository."""
    original = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    before, content, after = parts_of(page, module.PART)
    assert original.startswith(before) and original.endswith(after)
    return content


def cells_of(table: str, *names: str) -> list[list[str]]:
    """The rows of all tables that begin with these cells, without them."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return [row[len(names) :] for row in rows if tuple(row[: len(names)]) == names]


def test_products_of_a_step_are_counted_as_the_formulas_say():
    steps, support, query = 2, 5, 75
    setting = contenders.Setting(["text"], 5, 1, 1, steps, "cpu", "float32")
    both = {name: contenders.Contender(name, setting, torch.float32) for name in ("ours", "plain")}
    config = both["ours"].model.config
    channels = [config.num_channels, *config.layer_channels]
    length = own = 600 // config.text_patch_size
    layers, encoder = 0, 0
    for layer, kernel in enumerate(config.per_layer("kernel_size")):
        products = 2 * channels[layer] * channels[layer + 1]
        stride, padding = config.per_layer("stride")[layer], config.per_layer("padding")[layer]
        length = (length + 2 * padding - kernel) // stride + 1
        layers += products * kernel * length
        encoder += products * config.task_encoder_kernel_size * own
    embedding = 2 * own * config.text_patch_size * config.word_vector_size * channels[0]
    whole = layers + 2 * channels[-1] * config.n_way
    hidden = config.task_encoder_hidden_size
    encoder = support * (encoder + 2 * channels[-1] * hidden) + 2 * hidden * sum(config.modulation_sizes)
    evaluation = steps * support * (3 * whole + 2 * embedding) + query * (whole + embedding)
    assert meta_step.count_flops(both["ours"].evaluate) == evaluation + encoder + support * embedding
    assert meta_step.count_flops(both["plain"].evaluate) == evaluation + encoder + support * embedding
    training = steps * support * (9 * whole + 4 * embedding) + query * (3 * whole + 2 * embedding)
    assert meta_step.count_flops(both["ours"].step) == training + 3 * encoder + 2 * support * embedding


def test_evaluation_of_the_plain_loop_is_its_training_loss():
    setting = contenders.Setting(["text"], 5, 1, 1, 2, "cpu", "float64")
    contender = contenders.Contender("plain", setting, torch.float64)
    with torch.no_grad():
        (evaluation,) = contender._losses(partial(plain_loss, evaluation=True))
    assert not evaluation.requires_grad
    torch.testing.assert_close(evaluation, contender.loss().detach(), rtol=1e-12, atol=0)


def test_where_time_goes_reports_kinds_and_limits(page, monkeypatch):
    monkeypatch.setattr(where_time_goes, "matmul_peak", lambda setting: 1e11)
    monkeypatch.setattr(where_time_goes, "copy_rate", lambda: 1e10)
    where_time_goes.main(["--modalities", "text", "--repeats", "1", "--write", str(page)])
    tables = written(page, where_time_goes)
    assert "matrix product peak 100 Gflop/s, copies 10 GB/s" in tables
    for run in ("training", "evaluation"):
        kinds, limits = cells_of(tables, "text", run)
        assert float(kinds[0]) > 0 and float(kinds[1]) > 0
        gflop, at_peak, _, megabytes, at_rate, bound = map(float, limits[:6])
        assert at_peak == pytest.approx(10 * gflop, abs=0.06) and at_rate == pytest.approx(megabytes / 10, abs=0.06)
        assert bound == pytest.approx(at_peak + at_rate, abs=0.11)
    ratios = cells_of(tables, "text")[-1]
    # Products three times at most; those of embeddings, whose inputs need no derivative, fewer.
    assert 2 < float(ratios[0]) < 3


def test_bytes_of_passes_grow_by_those_of_an_inner_step():
    def passes(steps, evaluation):
        setting = contenders.Setting(["image"], 5, 1, 1, steps, "cpu", "float32")
        return where_time_goes.bytes_of_passes(contenders.Contender("ours", setting, torch.float32), evaluation)

    layers, _ = where_time_goes.layer_outputs(MSMAMLConfig(), 256)
    step = passes(2, True) - passes(1, True)
    parameters = sum(value.numel() for value in MSMAMLModel(MSMAMLConfig()).task_network.parameters())
    assert 4 * 7 * 5 * layers < step < 4 * (7 * 5 * layers + 3 * parameters)
    assert passes(2, False) - passes(1, False) > 2 * step


def test_checkpointing_reports_less_memory_for_many_steps(page, monkeypatch):
    monkeypatch.setattr(checkpointing, "STEPS", (1, 6))
    checkpointing.main(["--modalities", "text", "--k_shot", "1", "--write", str(page)])
    ((*cells, ratio),) = cells_of(written(page, checkpointing), "text")
    few, many, _, many_with = (float(cell.split(" ")[0]) for cell in cells)
    assert few < many and many_with < many and float(ratio) < many / few


def test_end_to_end_trains_on_drawn_episodes_and_on_the_same_in_memory(page, monkeypatch):
    small = partial(MSMAMLConfig, modalities=["text"], num_channels=4, num_layers=2)
    monkeypatch.setattr(end_to_end, "MSMAMLConfig", small)
    monkeypatch.setattr(end_to_end, "N_QUERY", {"text": 3})
    seen = []
    forward = MSMAMLModel.forward

    def recorded(self, episodes, **rest):
        seen.append(episodes["text"]["support"].clone())
        return forward(self, episodes, **rest)

    monkeypatch.setattr(MSMAMLModel, "forward", recorded)
    end_to_end.main(["--datasets", "synthetic:text", "--steps", "2", "--rounds", "1", "--write", str(page)])
    ((whole, alone, ratio, waiting),) = [row for row in cells_of(written(page, end_to_end)) if row[0][:1].isdigit()]
    # Training, then the computation alone, each of two steps on the same meta-batches.
    assert len(seen) == 4 and all(torch.equal(seen[i], seen[i + 2]) for i in range(2))
    assert float(alone) > 0 and 0 <= float(waiting) <= 100
    low, high = (float(whole) - 5e-4) / (float(alone) + 5e-4), (float(whole) + 5e-4) / max(float(alone) - 5e-4, 1e-9)
    assert low - 1e-3 <= float(ratio.split(" ")[0]) <= high + 1e-3
    with pytest.raises(SystemExit):
        end_to_end.main(["--steps", "1"])


def test_waiting_is_the_time_between_steps():
    clock = end_to_end.Clock()
    clock.began, clock.ended = [0.0, 3.0, 6.5], [2.0, 6.0, 9.0]
    assert clock.seconds_a_step() == 3.5 and clock.waiting_a_step() == 0.75

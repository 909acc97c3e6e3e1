"""Evaluation reads every row once: the same results, in less work."""

import numpy as np
import pytest
import torch

from data_builders import EpisodeDataset, FewShotSplit
from modeling_msmaml import MSMAMLModel
from modeling_msmaml.training.trainer import MetaTrainer
from modeling_msmaml.training.training_args import MetaTrainingArguments

from .test_default_architecture import N_WAY, SHAPES, WITHOUT_MODULATION, raw, small_model

ROWS, EPISODES = 40, 18


def dataset(num_episodes: int = EPISODES, n_way: int = N_WAY, **options) -> EpisodeDataset:
    generator = torch.Generator().manual_seed(1)
    splits = [
        FewShotSplit.from_arrays(raw(name, (ROWS,), generator).numpy(), [0, 1, 2, 3] * 10, None, name)
        for name in SHAPES
    ]
    return EpisodeDataset(splits, n_way, 2, 3, num_episodes, **options)


def evaluate(model: MSMAMLModel, output_dir, episodes: EpisodeDataset):
    settings = MetaTrainingArguments(
        output_dir=str(output_dir), n_way=N_WAY, report_to="none", use_cpu=True, disable_tqdm=True
    )
    return MetaTrainer(model, settings).predict(episodes)


def count_rows(model: MSMAMLModel) -> dict[str, int]:
    """Filled with how many samples each front end reads from now on."""
    counts = dict.fromkeys(model.frontends, 0)

    def hook(name):
        def add(module, inputs, output):
            counts[name] += inputs[0].shape[0] * inputs[0].shape[1]

        return add

    for name, frontend in model.frontends.items():
        frontend.register_forward_hook(hook(name))
    return counts


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adapted_parameters": "upper"},
        {"norm": "batch", "norm_statistics": "support", "adapted_parameters": "upper"},
        {"descriptor_size": 0},
        {"head": "linear", "adapted_parameters": "upper"},
        WITHOUT_MODULATION,
    ],
    ids=["default", "upper", "batch norm", "no descriptor", "linear head", "no modulation"],
)
def test_results_are_those_of_raw_rows(changes, tmp_path, monkeypatch):
    model = small_model(**changes)
    counts = count_rows(model)
    once = evaluate(model, tmp_path, dataset())
    # One more to learn how much memory it takes.
    assert counts == dict.fromkeys(SHAPES, ROWS + 1)
    monkeypatch.setattr(MSMAMLModel, "can_read_rows_once", False)
    again = evaluate(model, tmp_path, dataset())
    assert counts["audio"] == ROWS + 1 + EPISODES // 3 * N_WAY * 5
    assert once.predictions == again.predictions and once.label_ids == again.label_ids
    losses = {name: value for name, value in once.metrics.items() if name.endswith("loss")}
    assert len(losses) == 5 and losses == pytest.approx({name: again.metrics[name] for name in losses}, rel=1e-9)


def test_two_data_sets_of_one_modality_are_read_once_and_not_mixed_up(tmp_path, monkeypatch):
    model = small_model()
    counts = count_rows(model)
    generator = torch.Generator().manual_seed(2)
    splits = [
        FewShotSplit.from_arrays(
            raw("image", (rows,), generator).numpy(), np.arange(rows) % 4, None, "image", name=name
        )
        for name, rows in (("first", 40), ("second", 60))
    ]
    episodes = EpisodeDataset(splits, N_WAY, 2, 3, EPISODES)
    once = evaluate(model, tmp_path, episodes)
    assert counts["image"] == 101
    monkeypatch.setattr(MSMAMLModel, "can_read_rows_once", False)
    again = evaluate(model, tmp_path, episodes)
    assert once.predictions == again.predictions
    assert once.metrics["test_first_loss"] == pytest.approx(again.metrics["test_first_loss"], rel=1e-9)
    assert once.metrics["test_second_accuracy"] == again.metrics["test_second_accuracy"]


@pytest.mark.parametrize("changes", [{"adapted_parameters": "all"}, {"share_embeddings": False}])
def test_models_that_need_more_of_a_sample_read_it_in_every_episode(changes, tmp_path):
    model = small_model(**changes)
    counts = count_rows(model)
    evaluate(model, tmp_path, dataset())
    assert counts["image"] == EPISODES // 3 * N_WAY * 5
    with pytest.raises(ValueError, match="rows cannot be read once"), model.rows_read({"image": []}):
        pass


def test_what_takes_much_memory_or_occurs_once_is_read_in_every_episode(tmp_path, monkeypatch):
    model = small_model()
    counts = count_rows(model)
    evaluate(model, tmp_path, dataset(num_episodes=3))
    assert counts == dict.fromkeys(SHAPES, N_WAY * 5)
    size = model.bytes_of_row_read("text", torch.zeros((1, *SHAPES["text"]), dtype=torch.int32))
    monkeypatch.setattr("modeling_msmaml.training.evaluation.READ_BYTES", ROWS * size - 1)
    counts.update(dict.fromkeys(SHAPES, 0))
    evaluate(model, tmp_path, dataset())
    assert counts["text"] == EPISODES // 3 * N_WAY * 5 + 1


def test_changed_and_mixed_rows_are_not_read_again():
    assert set(dataset().splits_read_again()) == set(SHAPES)
    assert not dataset(augment=True).splits_read_again()
    assert set(dataset(n_way=2, mix_classes={"image": 0.5}).splits_read_again()) == set(SHAPES) - {"image"}


def test_rows_are_raw_again_afterwards_even_after_an_error(tmp_path):
    model = small_model()
    rows = raw("image", (2, 4), torch.Generator().manual_seed(0))
    before = model._read("image", rows).sequences
    with pytest.raises(RuntimeError, match="stop"), model.rows_read({"image": [lambda: rows[0], lambda: rows[1]]}):
        numbered = model._read("image", torch.arange(8).view(2, 4))
        torch.testing.assert_close(numbered.sequences, before)
        raise RuntimeError("stop")
    torch.testing.assert_close(model._read("image", rows).sequences, before)

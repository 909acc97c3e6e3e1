"""Synthetic tasks: the classes differ, most of what is visible does not tell them apart, and all is deterministic."""

import numpy as np
import pytest
import torch

from data_builders import EpisodeDataset, collate_episodes, load_few_shot
from data_builders.data_sets.synthetic import CLASSES, FAMILIES, SAMPLES_PER_CLASS
from modeling_msmaml import MSMAMLConfig, MSMAMLModel

ROWS = {"audio": ((16_000,), np.int16), "text": ((480,), np.int32), "image": ((3, 32, 32), np.uint8)}


@pytest.fixture(scope="module", params=list(ROWS))
def splits(request, cache_dir):
    return {split: load_few_shot(f"synthetic:{request.param}", split, cache_dir=cache_dir) for split in CLASSES}


def test_splits(splits):
    for split, n_classes in CLASSES.items():
        data = splits[split]
        shape, dtype = ROWS[data.modality]
        assert len(data) == n_classes * SAMPLES_PER_CLASS and data.row_shape == shape
        assert data.rows([0]).dtype == dtype
        assert np.bincount(data.labels).tolist() == [SAMPLES_PER_CLASS] * n_classes
        assert len(set(data.source_ids)) == len(data)
    names = [set(data.class_names) for data in splits.values()]
    assert len(set.union(*names)) == sum(CLASSES.values())


def test_rows_differ(splits):
    rows = splits["test"].rows(np.arange(SAMPLES_PER_CLASS * 2)).reshape(SAMPLES_PER_CLASS * 2, -1)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_text_has_what_a_model_needs(cache_dir):
    split = load_few_shot("synthetic", modality="text", cache_dir=cache_dir)
    assert split.word_vectors.shape == (len(split.tokenizer), 128) and split.word_vectors.dtype == np.float32
    assert not split.word_vectors[0].any()
    rows = split.rows(np.arange(100))
    assert rows.min() >= 2 and rows.max() < len(split.tokenizer)
    text = split.tokenizer.decode(rows[0])
    assert split.tokenizer(text, add_special_tokens=False)["input_ids"] == rows[0].tolist()


@pytest.mark.parametrize("modality", list(ROWS))
def test_classes_have_parameters_of_their_own(modality):
    """No two classes, so no two splits either, share their parameters."""
    family = FAMILIES[modality](np.random.default_rng(0), sum(CLASSES.values()))
    parameters = {"audio": "bands", "text": "topics", "image": "textures"}[modality]
    distinct = {str(np.asarray(own, dtype=object).tolist()) for own in getattr(family, parameters)}
    assert len(distinct) == sum(CLASSES.values())


@pytest.mark.parametrize("modality", list(ROWS))
def test_seed_decides_everything(modality):
    def sample(seed):
        family = FAMILIES[modality](np.random.default_rng(seed), 8)
        return family.sample(np.random.default_rng(seed + 1), 3)

    assert np.array_equal(sample(0), sample(0))
    assert not np.array_equal(sample(0), sample(5))


def test_seed_is_an_option(cache_dir):
    first, other = (load_few_shot("synthetic:text", cache_dir=cache_dir, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.rows([0]), other.rows([0]))


def test_an_untrained_model_is_near_chance(splits):
    """5-way 1-shot with 5 inner steps; what a trained model reaches is shown by the demo and its test."""
    torch.manual_seed(0)
    data = splits["test"]
    is_text = data.modality == "text"
    model = MSMAMLModel(
        MSMAMLConfig(modalities=[data.modality], **({"vocab_size": len(data.tokenizer)} if is_text else {}))
    )
    if is_text:
        model.get_input_embeddings().weight.data.copy_(torch.from_numpy(data.word_vectors))
    batch = collate_episodes(list(EpisodeDataset([data], 5, 1, 15, 24)))["episodes"]
    with torch.no_grad():
        logits = model.eval()(batch).logits[data.modality]
    accuracy = (logits.argmax(-1) == batch[data.modality]["query_labels"]).float().mean().item()
    assert 0.15 < accuracy < 0.32


def test_the_right_statistic_tells_classes_apart(splits):
    """The signal is there for a network to find: band energies, topic counts, texture energies."""
    data = splits["test"]
    features = _oracle(data)
    features = (features - features.mean(0)) / features.std(0)
    correct = []
    for episode in EpisodeDataset([data], 5, 1, 15, 60):
        support, query = features[episode["support_ids"]], features[episode["query_ids"]]
        distance = ((query[:, None] - support[None]) ** 2).sum(-1)
        correct.append((distance.argmin(1) == episode["query_labels"].numpy()).mean())
    assert np.mean(correct) > 0.6


def _oracle(data):
    rows = data.rows(np.arange(len(data)))
    if data.modality == "text":
        return np.stack([np.bincount((row[row < 194] - 2) // 12, minlength=16) for row in rows]).astype(float)
    if data.modality == "audio":
        energy = np.abs(np.fft.rfft(rows.astype(np.float32), axis=1)) ** 2
        edges = np.geomspace(150, 6000, 13).astype(int)
        return np.log(np.stack([energy[:, a:b].sum(1) for a, b in zip(edges, edges[1:], strict=False)], axis=1))
    spectrum = np.abs(np.fft.fft2(rows.astype(np.float32)))
    axes = np.asarray([(1, 1, 1), (1, -1, 0), (1, 1, -2)], float)
    mixed = np.abs(np.fft.fft2(np.einsum("ac,nchw->nahw", axes, rows.astype(np.float32))))
    bins = [(16, 0), (0, 16), (16, 16), (8, 0), (0, 8), (8, 16)]
    energies = [np.concatenate([spectrum, mixed], axis=1)[:, :, y, x] for y, x in bins]
    return np.log(1 + np.concatenate(energies, axis=1))

"""Augmentation of training rows, and episodes whose shape differs by modality."""

import numpy as np
import pytest
import torch

from data_builders import EpisodeDataset, FewShotSplit, collate_episodes
from data_builders.augmentation import augment
from data_builders.source_partition import RandomBits

from .toys import tiny_splits


def rows(modality: str, number: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    if modality == "audio":
        return torch.randint(-20000, 20000, (number, 4000), generator=generator).to(torch.int16)
    if modality == "text":
        ids = torch.randint(1, 50, (number, 60), generator=generator).to(torch.int32)
        ids[:, 50:] = 0
        return ids
    return torch.randint(0, 256, (number, 3, 32, 32), generator=generator).to(torch.uint8)


@pytest.mark.parametrize("modality", ["audio", "text", "image"])
def test_rows_change_and_stay_rows(modality):
    before = rows(modality)
    after = augment(modality, before, RandomBits(0, 1))
    assert after.shape == before.shape and after.dtype == before.dtype
    assert all(not torch.equal(new, old) for new, old in zip(after, before, strict=True))
    assert torch.equal(after, augment(modality, before, RandomBits(0, 1)))
    assert not torch.equal(after, augment(modality, before, RandomBits(0, 2)))


def test_a_passage_keeps_its_words_and_their_order():
    before = rows("text")
    for new, old in zip(augment("text", before, RandomBits(3)), before, strict=True):
        kept = new[new != 0].tolist()
        left = iter(old.tolist())
        assert all(token in left for token in kept), "a subsequence"
        assert not new[len(kept) :].any(), "padding only at the end"


def test_an_empty_passage_stays_empty():
    assert not augment("text", torch.zeros(2, 8, dtype=torch.int32), RandomBits(0)).any()


def test_a_text_of_one_word_keeps_it():
    row = torch.zeros(40, 8, dtype=torch.int32)
    row[:, 0] = 7
    assert (augment("text", row, RandomBits(0))[:, 0] == 7).all()


def test_a_modality_without_changes_is_refused():
    with pytest.raises(ValueError, match="'motion'"):
        augment("motion", torch.zeros(1, 3), RandomBits(0))


def image_split() -> FewShotSplit:
    return FewShotSplit.from_arrays(rows("image", 60).numpy(), np.repeat(np.arange(6), 10))


def test_augmented_episodes_are_a_function_of_seed_and_number():
    options = {"n_way": 3, "k_shot": 2, "n_query": 3, "num_episodes": 4, "seed": 1}
    plain, one, two = (EpisodeDataset([image_split()], **options, augment=changed) for changed in (False, True, True))
    assert torch.equal(one[2]["support"], two[2]["support"])
    assert torch.equal(one[2]["support_ids"], plain[2]["support_ids"]), "the same rows are drawn"
    assert not torch.equal(one[2]["support"], plain[2]["support"])


def test_ways_and_shots_by_modality():
    dataset = EpisodeDataset(
        tiny_splits(), {"audio": 2, "text": 3, "image": 4}, {"audio": 1, "text": 2, "image": 1}, 2, num_episodes=6
    )
    batch = collate_episodes([dataset[i] for i in range(6)], class_ids=True)["episodes"]
    assert {m: tuple(b["support_labels"].shape) for m, b in batch.items()} == {
        "audio": (2, 2),
        "text": (2, 6),
        "image": (2, 4),
    }
    for i, (modality, ways) in enumerate((("audio", 2), ("text", 3), ("image", 4))):
        assert batch[modality]["class_ids"].shape == (2, ways)
        assert torch.equal(batch[modality]["class_ids"][0], dataset[i]["class_ids"])
    assert "class_ids" not in collate_episodes([dataset[0]])["episodes"]["audio"]
    with pytest.raises(ValueError, match=r"k_shot=\{'audio': 1\} has no entry for modality text, image"):
        EpisodeDataset(tiny_splits(), 2, {"audio": 1}, 2, num_episodes=3)
    with pytest.raises(ValueError, match=r"n_way\[image\]=1"):
        EpisodeDataset(tiny_splits(), {"audio": 2, "text": 2, "image": 1}, 1, 2, num_episodes=3)

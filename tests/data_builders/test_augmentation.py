"""Augmentation of training rows, and episodes whose shape differs by modality."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_builders import EpisodeDataset, FewShotSplit, collate_episodes
from data_builders.episodes.augmentation import CHANGES, augment
from data_builders.episodes.random_bits import RandomBits
from msmaml.runs.run_arguments import parse_arguments

from ..msmaml.test_run_meta import options
from ..toys import tiny_splits


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


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(name, modality) for name, changes in CHANGES.items() for modality in changes]),
    st.integers(0, 2**40),
)
def test_every_change_is_a_function_of_its_seed_and_leaves_the_global_states(named, seed):
    (name, modality), before = named, rows(named[1])
    unchanged = before.clone()
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(1)  # noqa: NPY002
    one = augment(modality, before, RandomBits(seed), [name])
    drawn = random.random(), float(torch.rand(1)), np.random.random()  # noqa: NPY002
    assert torch.equal(one, augment(modality, before, RandomBits(seed), [name]))
    assert one.shape == before.shape and one.dtype == before.dtype
    assert torch.equal(before, unchanged), "not in place"
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(1)  # noqa: NPY002
    assert drawn == (random.random(), float(torch.rand(1)), np.random.random())  # noqa: NPY002


def test_sounds_lose_a_band_and_a_span():
    noise = torch.randint(-9000, 9000, (20, 16_000), generator=torch.Generator().manual_seed(0)).to(torch.int16)
    masked = augment("audio", noise, RandomBits(3), ["spec_augment"])
    silent = (masked.reshape(20, 100, 160) == 0).all(dim=2)
    assert (silent.sum(dim=1) < 20).all() and 3 < silent.sum(dim=1).float().mean() < 16
    lost = 0
    for row, quiet in zip(masked, silent, strict=True):
        places = quiet.nonzero().flatten().tolist()
        assert places == list(range(min(places, default=0), max(places, default=-1) + 1)), "one span"
        first, last = (160 * (places[place] + number) if places else 0 for place, number in ((0, 0), (-1, 1)))
        heard = row[:first] if first >= 8000 else row[last:]
        power = torch.fft.rfft(heard.double()).abs().square()
        spectrum = torch.nn.functional.adaptive_avg_pool1d(power[None], 40)[0]  # bands of 200 Hz
        missing = (spectrum < 0.05 * spectrum.median()).nonzero().flatten().tolist()
        assert missing == list(range(min(missing, default=0), max(missing, default=-1) + 1)), "one band"
        lost += len(missing) > 0
    assert lost > 8


def test_pictures_are_cropped_changed_and_erased():
    before = rows("image", 24)
    for name in ("random_resized_crop", "rand_augment", "random_erasing"):
        after = augment("image", before, RandomBits(3), [name])
        changed = (after != before).flatten(1).any(dim=1)
        assert changed.sum() > 6, name
        if name == "random_erasing":
            erased = (after != before).any(dim=1)
            assert not after[erased[:, None].expand_as(after)].any()
            assert 4 < changed.sum() < 20 and erased.float().mean(dim=(1, 2)).max() < 0.4


def test_an_affine_change_moves_a_character_a_little_and_mirrors_none():
    """A dot right of the middle stays near its place; the paper round it stays white."""
    before = torch.full((40, 3, 28, 28), 255, dtype=torch.uint8)
    before[:, :, 13:15, 20:22] = 0
    after = augment("image", before, RandomBits(2), ["affine"])
    assert (after[:, :, 0] == 255).all() and (after[:, :, :, 0] == 255).all()
    ink = 255.0 - after[:, 0].double()
    weight, places = ink.sum(dim=(1, 2)), torch.arange(28.0, dtype=torch.float64)
    down, across = (ink.sum(dim=2) @ places / weight, ink.sum(dim=1) @ places / weight)
    assert (down - 13.5).abs().max() < 3.5 and (across - 20.5).abs().max() < 2.5
    assert down.std() > 0.5 and across.std() > 0.5
    assert (weight / (4 * 255)).min() > 0.7 and (weight / (4 * 255)).max() < 1.4, "scaled by 0.9 to 1.1 in each side"


def test_changes_of_other_modalities_are_passed_over_and_unknown_ones_refused():
    before = rows("text")
    names = ["rand_augment", "spec_augment"]
    assert torch.equal(augment("text", before, RandomBits(0), names), before)
    with pytest.raises(ValueError, match="give each of random_resized_crop, .*, affine, basic, .* once"):
        augment("text", before, RandomBits(0), ["flip"])
    settings = {"n_way": 3, "k_shot": 2, "n_query": 3, "num_episodes": 4}
    with pytest.raises(ValueError, match="'spec_augment' changes audio samples, but the data are image"):
        EpisodeDataset([image_split()], **settings, augment=["spec_augment"])
    plain, basic = (EpisodeDataset([image_split()], **settings, augment=names) for names in (True, ["basic"]))
    assert torch.equal(plain[3]["support"], basic[3]["support"])


def parsed(*more: str):
    return parse_arguments(["configs/quickstart.yaml", *options(output_dir="outputs/none"), *more])[2].augment


def test_names_on_a_command_line():
    assert parsed() is False and parsed("--augment", "false") is False
    assert parsed("--augment", "true") is True and parsed("--augment", "basic") is True
    assert parsed("--augment", "basic", "rand_augment") == ["basic", "rand_augment"]


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
    with pytest.raises(ValueError, match=r"k_shot=\{'audio': 1\} has no entry for modality text or data set arrays"):
        EpisodeDataset(tiny_splits(), 2, {"audio": 1}, 2, num_episodes=3)
    with pytest.raises(ValueError, match=r"n_way\[image\]=1"):
        EpisodeDataset(tiny_splits(), {"audio": 2, "text": 2, "image": 1}, 1, 2, num_episodes=3)

"""Changed and mixed training classes as classes of their own."""

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import run_meta
from data_builders import EpisodeDataset, FewShotSplit, add_new_classes, collate_episodes
from data_builders.episodes import task_augmentation
from data_builders.episodes.encoded import encode_episodes
from data_builders.episodes.task_augmentation import NEW_CLASSES, mix, plain_rows
from modeling_msmaml import MetaTrainingArguments
from msmaml.runs import run

from ..msmaml.test_run_meta import options
from ..toys import tiny_splits

CLASSES, ROWS, SIDE, SAMPLES = 6, 8, 4, 90


def image_split(split="train", sources=None) -> FewShotSplit:
    rows = np.random.default_rng(0).integers(0, 256, (CLASSES * ROWS, 3, SIDE, SIDE), dtype=np.uint8)
    return FewShotSplit.from_arrays(rows, np.repeat(np.arange(CLASSES), ROWS), sources, "image", split)


def sound_split(split="train") -> FewShotSplit:
    rows = np.random.default_rng(0).integers(-9000, 9000, (CLASSES * ROWS, SAMPLES), dtype=np.int16)
    return FewShotSplit.from_arrays(rows, np.repeat(np.arange(CLASSES), ROWS), None, "audio", split)


def text_split() -> FewShotSplit:
    rows = np.random.default_rng(0).integers(1, 50, (CLASSES * ROWS, 10), dtype=np.int32)
    rows[::3, 7:] = 0
    return FewShotSplit.from_arrays(rows, np.repeat(np.arange(CLASSES), ROWS), None, "text")


SPLITS = {"audio": sound_split, "text": text_split, "image": image_split}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[key], other[key]) if isinstance(one[key], torch.Tensor) else one[key] == other[key]
        for key in one
    )


def test_every_turned_image_is_in_a_class_of_its_own():
    plain = image_split()
    (split,) = add_new_classes([plain], ["rotate"])
    assert len(split) == 4 * len(plain) and len(split.class_names) == 4 * CLASSES == len(set(split.class_names))
    assert plain_rows(split) == plain_rows(plain) == len(plain)
    rows = split.rows(np.arange(len(split))).reshape(4, *plain.rows(np.arange(len(plain))).shape)
    for quarters in range(4):
        assert np.array_equal(rows[quarters], np.rot90(rows[0], quarters, axes=(-2, -1)))
    assert split.class_names[:CLASSES] == plain.class_names
    assert split.class_names[CLASSES + 2] == "class_2, turned by 90 degrees"
    assert np.array_equal(split.labels.reshape(4, -1) % CLASSES, np.tile(plain.labels, (4, 1)))
    assert np.array_equal(split.source_ids.reshape(4, -1), np.tile(plain.source_ids, (4, 1)))


def test_sounds_faster_slower_and_backwards():
    time = np.arange(16_000) / 16_000
    sound = np.stack([9000 * np.sin(2 * np.pi * pitch * time) for pitch in (400, 600)]).round().astype(np.int16)
    sound[0, :8000] //= 2
    (split,) = add_new_classes([FewShotSplit.from_arrays(sound, [0, 1], None, "audio")], ["speed", "reverse"])
    assert len(split) == 8 and split.class_names[2:] == tuple(
        f"class_{c}, {said}" for said in ("faster", "slower", "backwards") for c in (0, 1)
    )
    rows = split.rows(np.arange(8))
    assert rows.dtype == np.int16 and rows.shape == (8, 16_000)
    assert np.array_equal(rows[:2], sound) and np.array_equal(rows[6:], sound[:, ::-1])
    peaks = np.abs(np.fft.rfft(rows.astype(float))).argmax(axis=1)
    assert np.abs(peaks[:6] - [400, 600, 600, 900, 267, 400]).max() <= 1
    assert np.abs(rows[2, 10_667:]).max() > 4000, "begins again where it ends early"


@pytest.mark.parametrize("slow", [True, False])
def test_slowly_changed_rows_are_made_once_as_far_as_they_fit(slow, monkeypatch):
    made = []
    change = NEW_CLASSES["reverse"].changes["backwards"]

    def count(rows):
        made.append(len(rows))
        return change(rows)

    monkeypatch.setitem(
        NEW_CLASSES, "reverse", NEW_CLASSES["reverse"]._replace(changes={"backwards": count}, slow=slow)
    )
    plain = sound_split()
    monkeypatch.setattr(task_augmentation, "KEPT_BYTES", 3 * plain.rows(np.arange(1)).nbytes)
    (split,) = add_new_classes([plain], ["reverse"])
    numbers = np.asarray([1, len(plain) + 1, len(plain), 0, len(plain) + 1, len(plain) + 2])
    expected = np.where((numbers < len(plain))[:, None], plain.rows(numbers % len(plain)), 0)
    expected[numbers >= len(plain)] = plain.rows(numbers[numbers >= len(plain)] - len(plain))[:, ::-1]
    for _ in range(2):
        taken = split.rows(numbers)
        assert np.array_equal(taken, expected)
        taken[:] = 0  # what is kept is not what was given out
    assert made == ([4, 1] if slow else [4, 4])
    assert np.array_equal(pickle.loads(pickle.dumps(split)).rows(numbers), expected)
    assert made == ([4, 1, 4] if slow else [4, 4, 4])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([("image", ["rotate"]), ("audio", ["speed"]), ("audio", ["reverse", "speed"]), ("text", [])]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(2, 3),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(0, 2**32),
    st.integers(0, 30),
    st.booleans(),
)
def test_episodes_are_true_to_their_provenance(kind, share, n_way, k_shot, n_query, seed, index, pickled):
    modality, names = kind
    plain = SPLITS[modality]()
    (split,) = add_new_classes([plain], names)
    dataset = EpisodeDataset([split], n_way, k_shot, n_query, 31, seed, mix_classes=share)
    episode = dataset[index]
    again = (
        pickle.loads(pickle.dumps(dataset))
        if pickled
        else EpisodeDataset([split], n_way, k_shot, n_query, 31, seed, mix_classes={modality: share})
    )
    [again[i] for i in (3, 0)]
    assert same(episode, again[index]), "a function of seed and number"
    mixed = "second_class_ids" in episode
    assert mixed == (share == 1) or share == 0.5
    everything = []
    for prefix in ("", "second_") if mixed else ("",):
        class_ids = episode[f"{prefix}class_ids"].numpy()
        for side in ("support", "query"):
            ids = episode[f"{prefix}{side}_ids"].numpy()
            everything += ids.tolist()
            assert np.array_equal(split.labels[ids], class_ids[episode[f"{side}_labels"].numpy()])
    assert len(set(everything)) == len(everything), "a row occurs twice"
    classes = [episode[key] for key in ("class_ids", "second_class_ids") if key in episode]
    assert len(torch.cat(classes).unique()) == (1 + mixed) * n_way
    sources = {}
    for side in ("support", "query"):
        rows = torch.from_numpy(split.rows(episode[f"{side}_ids"].numpy()))
        sources[side] = set(split.source_ids[episode[f"{side}_ids"].numpy()])
        if mixed:
            seconds = episode[f"second_{side}_ids"].numpy()
            rows = mix(rows, torch.from_numpy(split.rows(seconds)), modality)
            sources[side] |= set(split.source_ids[seconds])
        assert torch.equal(episode[side], rows), "support and query are made in the same way"
        assert episode[side].dtype == torch.from_numpy(plain.rows(np.arange(1))).dtype
    assert not sources["support"] & sources["query"], "a sample or its changed twin is on both sides"


def test_a_share_of_the_episodes_is_mixed_and_the_others_are_not():
    dataset = EpisodeDataset([image_split(), sound_split()], 2, 1, 2, 400, mix_classes={"image": 0.3})
    mixed = {
        modality: sum("second_class_ids" in dataset[i] for i in range(start, 400, 2))
        for start, modality in enumerate(("image", "audio"))
    }
    assert 40 < mixed["image"] < 80 and not mixed["audio"]
    batch = collate_episodes([dataset[i] for i in range(20)])["episodes"]
    assert set(batch["image"]) == {"support", "support_labels", "query", "query_labels"}


def test_workers_give_the_same_episodes():
    (split,) = add_new_classes([sound_split()], ["speed", "reverse"])
    dataset = EpisodeDataset([split], 3, 1, 2, 8, mix_classes=0.5, augment=True)
    loader = torch.utils.data.DataLoader(dataset, 2, num_workers=2, collate_fn=list)
    for i, episode in enumerate(episode for batch in loader for episode in batch):
        assert same(episode, dataset[i])


def test_mixtures():
    a, b = (torch.full((1, 3, 4, 4), value, dtype=torch.uint8) for value in (10, 20))
    assert mix(a, b, "image")[0, :, :, 0].tolist() == [[10, 10, 20, 20]] * 3
    a, b = torch.tensor([[1, 2, 3, 4, 5, 0], [7, 0, 0, 0, 0, 0]]), torch.tensor([[6, 7, 8, 9, 0, 0], [0] * 6])
    assert mix(a.int(), b.int(), "text").tolist() == [[1, 2, 3, 6, 7, 0], [7, 0, 0, 0, 0, 0]]
    time = torch.arange(1600) / 1600
    low, high = (size * torch.sin(2 * torch.pi * pitch * time) for size, pitch in ((20_000, 50), (200, 200)))
    mixed = mix(low[None].short(), high[None].short(), "audio")
    spectrum = torch.fft.rfft(mixed[0].double()).abs()
    assert float(spectrum[50] / spectrum[200]) == pytest.approx(1, abs=0.05), "equally loud"
    loud = mix(*torch.full((2, 1, 8), 32767, dtype=torch.int16), "audio")
    assert (loud == 32767).all()
    silent = torch.zeros(1, 1600, dtype=torch.int16)
    assert torch.equal(mix(silent, mixed, "audio"), mixed) and not mix(silent, silent, "audio").any()


def test_what_has_no_effect_or_no_sense_is_refused():
    split = image_split()
    for names in (["flip"], ["rotate", "rotate"]):
        with pytest.raises(ValueError, match="give each of rotate, speed, reverse once"):
            add_new_classes([split], names)
    with pytest.raises(ValueError, match="'speed' makes audio classes, but the data are image"):
        add_new_classes([split], ["speed"])
    for held_out in ("validation", "test"):
        with pytest.raises(ValueError, match="for training"):
            add_new_classes([image_split(held_out)], ["rotate"])
        with pytest.raises(ValueError, match="for training"):
            EpisodeDataset([image_split(held_out)], 2, 1, 1, 1, mix_classes=0.5)
    with pytest.raises(ValueError, match="for training on samples as they are"):
        add_new_classes(add_new_classes([split], ["rotate"]), ["rotate"])
    wide = FewShotSplit.from_arrays(np.zeros((4, 3, 4, 5), np.uint8), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="square"):
        add_new_classes([wide], ["rotate"])
    features = FewShotSplit.from_arrays(np.zeros((4, 5, 5), np.float16), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="features of an encoder"):
        add_new_classes([features], ["rotate"])
    with pytest.raises(ValueError, match="features of an encoder"):
        mix(torch.zeros(1, 5, 5), torch.zeros(1, 5, 5), "image")
    with pytest.raises(ValueError, match="no way to mix 'motion'"):
        mix(torch.zeros(1, 3), torch.zeros(1, 3), "motion")
    with pytest.raises(ValueError, match=r"draws twice n_way\[image\]=4 classes: n_way=8"):
        EpisodeDataset([split], 4, 1, 1, 1, mix_classes=0.5)
    with pytest.raises(ValueError, match="is for text, but the episodes are of image"):
        EpisodeDataset([split], 2, 1, 1, 1, mix_classes={"text": 0.5})
    for share in (1.5, -0.1, True, "0.5"):
        with pytest.raises(ValueError, match="must be a share from 0 to 1"):
            EpisodeDataset([split], 2, 1, 1, 1, mix_classes=share)


def test_shares_on_a_command_line(tmp_path):
    parse = lambda value: MetaTrainingArguments(output_dir=str(tmp_path), use_cpu=True, mix_classes=value).mix_classes  # noqa: E731
    assert parse("0.25") == parse(0.25) == 0.25 and parse('{"text": 0.5}') == {"text": 0.5} and parse(None) is None
    for wrong, message in (
        ("some", "neither a number"),
        ("2", "from 0 to 1"),
        ('"x"', "from 0 to 1"),
        ("true", "from"),
    ):
        with pytest.raises(ValueError, match=message):
            parse(wrong)


def test_no_new_classes_on_a_command_line(tmp_path):
    parse = lambda value: MetaTrainingArguments(output_dir=str(tmp_path), use_cpu=True, new_classes=value).new_classes  # noqa: E731
    assert parse(["false"]) is parse(False) is parse(None) is None and parse("rotate") == ["rotate"]
    with pytest.raises(ValueError, match="does not say which"):
        parse(["true"])


def training(tmp_path, name, **changes):
    run = ["configs/quickstart.yaml", *options(output_dir=tmp_path / name, do_predict=True, **changes)]
    return run_meta.main([*run, "--new_classes", "rotate", "reverse"])


def test_a_run_trains_on_new_classes_and_evaluates_as_ever(tmp_path, monkeypatch):
    made, make = {}, run.make_datasets
    monkeypatch.setattr(run, "make_datasets", lambda *given: made.update(make(*given)) or dict(made))
    training(tmp_path, "run", mix_classes='{"text": 0.5}', n_way=2)
    train = {split.modality: split for split in made["train"].splits}
    test = {split.modality: split for split in made["test"].splits}
    assert plain_rows(train["image"]) * 4 == len(train["image"])
    assert plain_rows(train["audio"]) * 2 == len(train["audio"])
    assert train["text"].num_plain_rows is None and all(split.num_plain_rows is None for split in test.values())
    assert made["train"].mix_classes == {"audio": 0, "text": 0.5, "image": 0}
    assert not any(made["test"].mix_classes.values())
    names = {name.split(",")[0] for split in train.values() for name in split.class_names}
    assert not names & {name for split in test.values() for name in split.class_names}
    settings = json.loads((tmp_path / "run" / "all_results.json").read_text())["settings"]
    assert settings["new_classes"] == ["rotate", "reverse"] and settings["mix_classes"] == {"text": 0.5}


def test_a_resumed_run_ends_like_one_that_was_not_and_must_keep_its_classes(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2, "n_way": 2, "mix_classes": 0.5}
    whole = training(tmp_path, "whole", **saving)
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    resumed = training(tmp_path, "resumed", **saving, resume_from_checkpoint=checkpoint)
    assert resumed["test_accuracy"] == whole["test_accuracy"] and resumed["test_loss"] == whole["test_loss"]
    with pytest.raises(ValueError, match="mix_classes was 0.5 and is 0.25"):
        training(tmp_path, "other", **{**saving, "mix_classes": 0.25}, resume_from_checkpoint=checkpoint)


def test_auxiliary_classes_count_the_new_ones_and_refuse_mixtures(tmp_path):
    training(tmp_path, "run", auxiliary=True)
    sizes = json.loads((tmp_path / "run" / "config.json").read_text())["auxiliary_classes"]
    assert sizes["image"] % 4 == 0 and sizes["audio"] % 2 == 0
    with pytest.raises(SystemExit, match="mix_classes=0.5 makes classes that are none of the training classes"):
        training(tmp_path, "mixed", auxiliary=True, mix_classes=0.5)


def test_features_of_mixtures_cannot_be_stored():
    from modeling_msmaml.model.pretrained_encoder import PretrainedFrontend

    frontend = PretrainedFrontend.__new__(PretrainedFrontend)
    dataset = EpisodeDataset(tiny_splits(["text"]), 2, 1, 1, 2, mix_classes=0.5)
    with pytest.raises(ValueError, match="the features of text cannot be stored"):
        encode_episodes(dataset, {"text": frontend})

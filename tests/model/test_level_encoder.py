"""What holds for the level encoders of all modalities."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_msmaml.model.level_encoder import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LevelEncoder,
    build_level_encoder,
    read_level_encoder,
    register_level_encoder,
    save_level_encoder,
    segment_means,
)

from .level_encoders import DESCRIPTIONS, raw_rows, tiny

NAMES = {
    "text": "L0 L1 L2",
    "image": "B1 B1g B2 B3 B3g B4 H Hx",
    "audio": "A1m A2m A2f A3m A4 A4m A4f A4s A4fs S T",
}
LAST = {"text": "L2", "image": "H", "audio": "A4"}
CHOSEN = {"text": ["L2", "L0"], "image": ["H", "B2", "B1g"], "audio": ["T", "A4", "A4fs"]}


@pytest.fixture(params=DESCRIPTIONS)
def modality(request):
    return request.param


@pytest.fixture
def encoder(modality):
    return tiny(modality)


def test_levels_are_named_and_follow_one_another(encoder, modality):
    assert list(encoder.level_sizes) == NAMES[modality].split()
    assert encoder.last_level == LAST[modality] and encoder.modality == modality
    flat = encoder.levels(raw_rows(modality))
    assert flat.shape == (5, sum(encoder.level_sizes.values()))
    parts = encoder.split(flat)
    assert {name: part.shape[1] for name, part in parts.items()} == encoder.level_sizes
    assert torch.equal(torch.cat(list(parts.values()), dim=1), flat)
    exact = encoder.encode(raw_rows(modality))
    for name, part in parts.items():
        assert part.std(dim=0).max() > 1e-4, f"{name} is constant"
        torch.testing.assert_close(part, exact[name], rtol=1e-3, atol=1e-4)


def test_levels_are_float32_with_values_of_float16(encoder, modality):
    flat = encoder.levels(raw_rows(modality))
    assert flat.dtype == torch.float32 and torch.equal(flat, flat.half().float())
    assert flat.isfinite().all()


def test_values_that_float16_cannot_hold_are_cut_off(modality, monkeypatch):
    encoder = tiny(modality)
    known = encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda raw: {name: 1e9 * level for name, level in known(raw).items()})
    assert encoder.levels(raw_rows(modality)).abs().max() == torch.finfo(torch.float16).max


def test_a_sample_does_not_depend_on_the_others(encoder, modality):
    rows = raw_rows(modality)
    together = encoder.levels(rows)
    alone = torch.cat([encoder.levels(row[None]) for row in rows])
    torch.testing.assert_close(alone, together, rtol=2e-3, atol=2e-4)
    encoder.chunk_size = 2
    torch.testing.assert_close(encoder.levels(rows), together, rtol=2e-3, atol=2e-4)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(encoder.levels(rows[order]), together[order], rtol=2e-3, atol=2e-4)


def test_levels_are_constants_of_an_encoder_that_never_trains(encoder, modality):
    rows = raw_rows(modality)
    before = encoder.levels(rows)
    encoder.train()
    for parameter in encoder.parameters():
        assert not parameter.requires_grad
        parameter.requires_grad_(True)
    after = encoder.levels(rows)
    assert not after.requires_grad and torch.equal(after, before)


def test_autocast_changes_nothing(encoder, modality):
    rows = raw_rows(modality)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = encoder.levels(rows)
    assert torch.equal(found, encoder.levels(rows))


def test_an_encoder_in_bfloat16_returns_nearly_the_same(encoder, modality):
    rows = raw_rows(modality)
    exact = encoder.levels(rows)
    found = encoder.bfloat16().levels(rows)
    assert found.dtype == torch.float32
    assert (found - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_no_samples_have_no_levels(encoder, modality):
    assert encoder.levels(raw_rows(modality)[:0]).shape == (0, sum(encoder.level_sizes.values()))


def test_a_sample_without_batch_is_refused(encoder, modality):
    with pytest.raises(ValueError, match=f"the encoder of {modality} reads samples of .* one batch"):
        encoder.levels(raw_rows(modality)[0])


def test_levels_can_be_chosen(modality):
    every, some = tiny(modality), tiny(modality, levels=CHOSEN[modality])
    assert list(some.level_sizes) == [name for name in every.level_sizes if name in CHOSEN[modality]]
    rows = raw_rows(modality)
    expected = every.split(every.levels(rows))
    for name, level in some.split(some.levels(rows)).items():
        torch.testing.assert_close(level, expected[name], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("levels", "message"), [(["C7"], "has no 'C7'; its levels are"), ([], "must include .*the encoder's own embedding")]
)
def test_levels_that_do_not_exist_are_refused(modality, levels, message):
    with pytest.raises(ValueError, match=message):
        tiny(modality, levels=levels)


def test_a_saved_encoder_is_the_same_in_float16(encoder, modality, tmp_path):
    save_level_encoder(encoder, tmp_path / "new" / modality)
    stored = load_file(tmp_path / "new" / modality / WEIGHTS_FILE)
    assert {tensor.dtype for tensor in stored.values()} <= {torch.float16, torch.int64}
    read = read_level_encoder(tmp_path / "new" / modality)
    assert read.dtype == torch.float32
    rows = raw_rows(modality)
    assert torch.equal(read.levels(rows), encoder.half().float().levels(rows))
    some = read_level_encoder(tmp_path / "new" / modality, levels=CHOSEN[modality])
    assert set(some.level_sizes) == set(CHOSEN[modality])


def test_an_encoder_is_built_with_its_constants_where_a_model_is_built_without_memory(modality):
    with torch.device("meta"):
        encoder = build_level_encoder(DESCRIPTIONS[modality])
    assert encoder.device.type == "cpu" and encoder.levels(raw_rows(modality)).isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "nothing"}, "encoder='nothing' is not registered: choose one of aisfx, timm, timm_features, "),
        ({"colour": 1, "size": 2}, "the encoder 'timm' has no option colour, size; it has architecture"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        build_level_encoder({**DESCRIPTIONS["image"], **changes})


def change_weights(folder):
    path = folder / WEIGHTS_FILE
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)


def drop_a_tensor(folder):
    tensors = load_file(folder / WEIGHTS_FILE)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, folder / WEIGHTS_FILE)
    forget_checksum(folder)


def reshape_a_tensor(folder):
    tensors = load_file(folder / WEIGHTS_FILE)
    name = sorted(tensors)[0]
    save_file({**tensors, name: tensors[name][None]}, folder / WEIGHTS_FILE)
    forget_checksum(folder)


def cut_weights(folder):
    (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:100])
    forget_checksum(folder)


def forget_checksum(folder):
    description = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps({**description, "sha256": None}))


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (change_weights, ValueError, "has the checksum .* says"),
        (drop_a_tensor, ValueError, "1 tensors are missing, unknown or of another shape, such as model"),
        (reshape_a_tensor, ValueError, "does not fit config.json beside it: 1 tensors have other sizes, such as model"),
        (cut_weights, ValueError, "cannot be read"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), FileNotFoundError, f"it has no {WEIGHTS_FILE}"),
        (lambda folder: (folder / CONFIG_FILE).unlink(), FileNotFoundError, f"it has no {CONFIG_FILE}"),
        (lambda folder: (folder / CONFIG_FILE).write_text("{"), ValueError, "is not valid JSON"),
        (lambda folder: (folder / CONFIG_FILE).write_text("[]"), ValueError, "must hold an object"),
    ],
)
def test_damaged_folders_are_refused(tmp_path, damage, kind, message):
    save_level_encoder(tiny("image"), tmp_path)
    damage(tmp_path)
    with pytest.raises(kind, match=message):
        read_level_encoder(tmp_path)


class Brightness(LevelEncoder):
    """Mean and extremes of the pixels."""

    modality = "image"
    sample_dims = 3

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))
        self.set_levels({"low": 3, "mean": 3}, "mean", None)

    def encode(self, raw):
        pixels = raw.float() * self.scale
        return {"mean": pixels.mean(dim=(2, 3)), "low": pixels.amin(dim=(2, 3))}


def test_an_encoder_of_ones_own_is_registered(monkeypatch):
    monkeypatch.setattr("modeling_msmaml.model.level_encoder._REGISTRY", {})
    register_level_encoder("brightness", Brightness)
    encoder = build_level_encoder({"encoder": "brightness", "scale": 0.5})
    rows = raw_rows("image")
    assert torch.equal(encoder.levels(rows)[:, :3], rows.float().amin(dim=(2, 3)) / 2)
    register_level_encoder("timm", Brightness)
    assert type(build_level_encoder({"encoder": "timm"})) is Brightness


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (torch.nn.Linear, TypeError, "must be a subclass of LevelEncoder"),
        (LevelEncoder, ValueError, "LevelEncoder must set modality and sample_dims"),
    ],
)
def test_other_classes_are_not_registered(wrong, kind, message):
    with pytest.raises(kind, match=message):
        register_level_encoder("wrong", wrong)


def test_segments_are_averaged_one_by_one():
    values = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    assert segment_means(values, [2, 1]).tolist() == [[2.0, 1.0], [5.0, 5.0]]

"""ResNet-12 against a plain rewrite in float64; what DropBlock drops, and when."""

import pytest
import torch
import torch.nn.functional as F

from modeling_msmaml import MSMAMLConfig, MSMAMLModel
from modeling_msmaml.model.drop_block import kept_factors

from .. import picture_reference
from ..pictures import assert_plain_gradients, picture_batch, picture_config, picture_model
from .test_outer_gradient import finite_difference, gradients, random_direction

SMALL = {"task_network": "resnet12", "layer_widths": [3, 4], "kernel_size": 5}  # the default kernel size: it has none
SEEDS = torch.tensor([3, 4_000_000_000, 17])
KINDS = {
    "MAML": {},
    "flat features": {"pooling": "flatten"},
    "ConvGRU and FiLM": {"conditioning": "affine", "task_encoder": "conv_gru"},
    "gates": {"conditioning": "sigmoid", "task_encoder": "conv2d"},
}


def kept_of(model: MSMAMLModel, batch: dict, name: str) -> list[tuple[torch.Tensor, ...]]:
    """What is kept of the outputs of each layer, for each task."""
    return list(zip(*model._read("image", batch[name]).kept, strict=True))


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("kind", KINDS)
def test_network_and_outer_gradient_are_those_of_a_plain_rewrite(kind, first_order):
    model = picture_model(**SMALL, **KINDS[kind], first_order=first_order)
    assert_plain_gradients(model, picture_batch(), picture_reference.resnet12_logits, picture_reference.encode)


def test_only_the_head_is_adapted():
    model = picture_model(**SMALL, adapted_parameters="head")
    arguments = picture_reference.resnet12_logits, picture_reference.encode, lambda name: name.startswith("classifier.")
    assert_plain_gradients(model, picture_batch(), *arguments)


def test_dropped_positions_are_the_same_in_all_inner_steps():
    model, batch = picture_model(**SMALL, drop_block=0.4, drop_block_size=2).train(), picture_batch()
    known = [
        (pictures.double() / 255, kept)
        for name in ("support", "query")
        for pictures, kept in zip(batch[name], kept_of(model, batch, name), strict=True)
    ]

    def logits_of(config, fast, pictures, modulation):
        (kept,) = (kept for own, kept in known if own.shape == pictures.shape and torch.equal(own, pictures))
        return picture_reference.resnet12_logits(config, fast, pictures, modulation, kept)

    assert any((part == 0).any() for _, kept in known for part in kept)
    assert_plain_gradients(model, batch, logits_of, picture_reference.encode)


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "group"},
        {"norm": "task", "conditioning": "affine"},
        {"norm_statistics": "support", "adapted_parameters": "upper"},
        {"adapted_parameters": "biases_and_norms"},
        {"adapted_parameters": "lora", "lora_layers": ["convolutions", "shortcuts"], "lora_rank": 1},
        {"inner_optimizer": "meta_curvature"},
        {"drop_block": 0.3, "drop_block_size": 2, "inner_loop_checkpointing": True},
    ],
    ids=str,
)
def test_outer_gradient_agrees_with_finite_differences(changes):
    model, episodes = picture_model(**SMALL, **changes).train(), {"image": picture_batch()}
    _, actual = gradients(model, episodes)
    names = [name for name, gradient in actual.items() if gradient is not None]
    direction = random_direction(model, names, torch.Generator().manual_seed(2))
    numerical = finite_difference(model, episodes, direction, 1e-8)  # no ReLU changes sides
    analytical = sum(float((actual[name] * along).sum()) for name, along in direction.items())
    assert analytical == pytest.approx(numerical, rel=1e-4)


def test_widths_and_number_of_parameters_are_those_of_the_field():
    config = MSMAMLConfig(task_network="resnet12", modalities=["image"], conditioning="none")
    assert config.layer_widths == [64, 160, 320, 640]
    with torch.device("meta"):
        network = MSMAMLModel(config).task_network
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert shapes["convolutions.2.weight"] == (64, 64, 3, 3) and shapes["shortcuts.3.weight"] == (640, 320, 1, 1)
    assert shapes["classifier.weight"] == (5, 640)
    of_body = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("classifier."))
    assert of_body == 12_424_320


@pytest.mark.parametrize(("side", "size"), [(9, 1), (5, 5), (8, 3), (10, 5), (2, 5)])
@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_the_share_that_is_dropped_is_the_rate(side, size, rate):
    kept = kept_factors(SEEDS, 1, (40, 60, side), rate, size, torch.float64)
    assert kept.shape == (3, 40, 60, side, side)
    dropped = (kept == 0).double().mean().item()
    # Squares that overlap drop fewer positions.
    assert (1 - 0.2 * (1 < size < side)) * rate - 0.01 < dropped < rate + 0.01
    torch.testing.assert_close(kept.mean(dim=(1, 2, 3, 4)), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(("side", "size"), [(8, 3), (5, 5), (9, 2)])
def test_whole_squares_are_dropped(side, size):
    dropped = (kept_factors(SEEDS, 0, (6, 8, side), 0.2, size, torch.float32) == 0).float().flatten(0, 1)
    corners = -F.max_pool2d(-dropped, size, stride=1)  # where all of a square is dropped
    squares = F.max_pool2d(F.pad(corners, [size - 1] * 4), size, stride=1)
    assert dropped.any() and torch.equal(squares, dropped)


def test_the_same_seed_drops_the_same_and_another_other_positions():
    def dropped(seeds, layer=0):
        return kept_factors(seeds, layer, (4, 5, 6), 0.3, 2, torch.float32) == 0

    assert torch.equal(dropped(SEEDS), dropped(SEEDS))
    assert torch.equal(dropped(SEEDS)[1:2], dropped(SEEDS[1:2])), "no task depends on the others"
    assert not torch.equal(dropped(SEEDS), dropped(SEEDS, layer=1))
    assert not torch.equal(dropped(SEEDS)[0], dropped(SEEDS)[1])


def test_nothing_is_dropped_in_evaluation():
    plain, dropping = picture_model(**SMALL), picture_model(**SMALL, drop_block=0.5)
    episodes = {"image": picture_batch()}
    assert torch.equal(dropping.eval()(episodes).logits["image"], plain.eval()(episodes).logits["image"])
    assert not torch.allclose(dropping.train()(episodes).loss, plain.train()(episodes).loss)


@pytest.mark.parametrize("task_chunk_size", [1, 3])
def test_no_chunk_changes_what_is_dropped(task_chunk_size):
    episodes = {"image": picture_batch(tasks=3)}
    losses = [
        picture_model(**SMALL, drop_block=0.3, task_chunk_size=size).train()(episodes).loss
        for size in (2, task_chunk_size)
    ]
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)


def test_the_rate_of_squares_rises():
    config = {**SMALL, "layer_widths": [4, 4, 4], "num_layers": 3, "image_size": 16}
    model, batch = picture_model(**config, drop_block=0.4, drop_block_steps=10).train(), picture_batch(side=16)
    shares = []
    for model.training_turn in (0, 5, 10, 1000):
        layers = model._read("image", batch["query"]).kept
        shares.append([(layer == 0).double().mean().item() for layer in layers])
    assert len({single for single, _, _ in shares}) == 1 and shares[0][0] == pytest.approx(0.4, abs=0.05)
    assert shares[0][1:] == [0, 0]
    assert 0.05 < shares[1][1] < shares[2][1] and shares[2] == shares[3]


def test_saved_model_comes_back(tmp_path):
    model = picture_model(torch.float32, **SMALL, conditioning="affine", task_encoder="conv_gru", drop_block=0.1)
    model.save_pretrained(tmp_path)
    loaded, episodes = MSMAMLModel.from_pretrained(tmp_path), {"image": picture_batch()}
    assert torch.equal(loaded.eval()(episodes).logits["image"], model.eval()(episodes).logits["image"])
    assert torch.equal(loaded.train()(episodes).loss, model.train()(episodes).loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": ["text"]}, "task_network='resnet12' reads pictures alone"),
        ({"kernel_size": 3}, "kernel_size=3 has no effect with task_network='resnet12'"),
        ({"stride": 1}, "stride=1 has no effect"),
        ({"max_pooling": True}, "max_pooling=True has no effect"),
        ({"norm_affine": True}, "norm_affine=True has no effect"),
        ({"image_size": 2}, "image_size=2 is too small for layer 1, of pictures of 1 x 1"),
        ({"drop_block": 1.0}, r"drop_block=1.0 must be in \[0, 1\)"),
        ({"drop_block_size": 3}, "drop_block_size=3 has no effect with drop_block=0.0"),
        ({"drop_block_steps": 3}, "drop_block_steps=3 has no effect with drop_block=0.0"),
        ({"task_network": "conv2d", "drop_block": 0.1}, "drop_block=0.1 has no effect with task_network='conv2d'"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLModel(picture_config(**{**SMALL, **changes}))

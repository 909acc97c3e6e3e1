"""The task network over pictures: against a plain rewrite in float64, with the inner loop's options, and refusals."""

import pytest
import torch
import torch.nn.functional as F

from modeling_msmaml import MSMAMLConfig, MSMAMLModel, register_task_encoder
from modeling_msmaml.model import task_encoder
from modeling_msmaml.model.convolution2d import conv2d

from .. import picture_reference, reference
from ..pictures import assert_plain_gradients, picture_batch, picture_config, picture_model
from .test_outer_gradient import finite_difference, gradients, random_direction


def encoded_patches(model, support, parameters):
    """The modulation of the encoder over sequences."""
    return reference.encode(model, "image", support, parameters)


KINDS = {
    "Conv-4 of MAML": {},
    "its scales and shifts": {"norm_affine": True},
    "max pooling, flat features": {"stride": 1, "max_pooling": True, "pooling": "flatten", "norm_affine": True},
    "FiLM": {"conditioning": "affine", "norm_affine": True},
    "gates": {"conditioning": "sigmoid"},
    "softmax": {"conditioning": "softmax", "stride": [1, 2], "padding": [0, 1], "kernel_size": [3, 5]},
    "widths that double": {"layer_widths": None, "num_channels": 3},
    "grey pictures": {"image_channels": 1, "conditioning": "sigmoid"},
}


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("kind", KINDS)
def test_network_and_outer_gradient_are_those_of_a_plain_rewrite(kind, first_order):
    model = picture_model(**KINDS[kind], first_order=first_order)
    batch = picture_batch(channels=model.config.image_channels)
    assert_plain_gradients(model, batch, picture_reference.conv2d_logits, encoded_patches)


@pytest.mark.parametrize("adapted", ["upper", "head"])
def test_what_is_adapted_is_that_of_the_plain_rewrite(adapted):
    model = picture_model(adapted_parameters=adapted, norm_affine=True)
    is_adapted = {"upper": lambda name: True, "head": lambda name: name.startswith("classifier.")}[adapted]
    assert_plain_gradients(model, picture_batch(), picture_reference.conv2d_logits, encoded_patches, is_adapted)


@pytest.mark.parametrize(
    "changes",
    [
        {"conditioning": "affine"},
        {"norm": "group", "conditioning": "sigmoid"},
        {"norm": "task"},
        {"norm_statistics": "support", "max_pooling": True, "stride": 1},
        {"adapted_parameters": "lora", "lora_rank": 2},
        {"adapted_parameters": "biases_and_norms"},
        {"inner_optimizer": "momentum"},
        {"inner_optimizer": "adam", "inner_optimizer_kwargs": {"eps": 1e-2}},
        {"inner_optimizer": "meta_curvature", "inner_rates": "per_layer_per_step"},
        {"inner_rates": "per_element"},
        {"head": "prototype"},
        {"inner_loop_checkpointing": True, "num_inner_steps": 6},
    ],
    ids=str,
)
def test_outer_gradient_agrees_with_finite_differences(changes):
    model, episodes = picture_model(**changes).train(), {"image": picture_batch()}
    _, actual = gradients(model, episodes)
    direction = random_direction(
        model, [n for n, g in actual.items() if g is not None], torch.Generator().manual_seed(2)
    )
    numerical = finite_difference(model, episodes, direction, 1e-8)  # no ReLU changes sides
    analytical = sum(float((actual[name] * along).sum().detach()) for name, along in direction.items())
    assert analytical == pytest.approx(numerical, rel=1e-4)


@pytest.mark.parametrize(("side", "stride"), [(28, 2), (14, 2), (7, 2), (4, 2), (32, 2), (16, 1)])
def test_convolutions_of_pictures_are_exact(side, stride, threads):
    """In float32, with gradients, at the sizes that occur: the CPU's kernel for one dimension is wrong there."""
    generator = torch.Generator().manual_seed(side)
    shapes = (2, 2, 8, side, side), (2, 16, 8, 3, 3), (2, 16)
    inputs, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    results = []
    for dtype in (torch.float32, torch.float64):
        tensors = [tensor.to(dtype).requires_grad_() for tensor in (inputs, weight, bias)]
        if dtype == torch.float32:
            outputs = conv2d(*tensors, stride, 1)
        else:
            outputs = torch.stack([F.conv2d(*task, stride, 1) for task in zip(*tensors, strict=True)])
        first = torch.autograd.grad(outputs.square().mean(), tensors, create_graph=True)
        results.append([outputs, *first, *torch.autograd.grad(sum(g.square().sum() for g in first), tensors)])
    for actual, expected in zip(*results, strict=True):
        assert (actual.double() - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_tasks_go_on_from_where_they_are():
    model, batch = picture_model(conditioning="affine", num_inner_steps=5).eval(), picture_batch()
    whole = model.adapt("image", batch["support"], batch["support_labels"])
    part = model.adapt("image", batch["support"], batch["support_labels"], num_inner_steps=2)
    part = model.adapt_further(part, batch["support"], batch["support_labels"], num_inner_steps=3)
    assert torch.equal(model.classify(part, batch["query"]), model.classify(whole, batch["query"]))


def test_more_steps_in_evaluation_than_in_training():
    model, batch = picture_model(num_eval_inner_steps=7), {"image": picture_batch()}
    assert model.train()(batch).support_loss["image"].shape[1] == 3
    assert model.eval()(batch).support_loss["image"].shape[1] == 7


def test_saved_model_comes_back(tmp_path):
    model, batch = picture_model(torch.float32, conditioning="sigmoid", norm_affine=True), {"image": picture_batch()}
    model.save_pretrained(tmp_path)
    loaded = MSMAMLModel.from_pretrained(tmp_path)
    assert loaded.config.own_values() == model.config.own_values()
    assert torch.equal(loaded.eval()(batch).logits["image"], model.eval()(batch).logits["image"])


def test_task_encoder_of_ones_own_sees_pictures(monkeypatch):
    monkeypatch.setattr(task_encoder, "_REGISTRY", dict(task_encoder._REGISTRY))

    class MeanColour(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.embeddings = None
            self.heads = torch.nn.ModuleList(torch.nn.Linear(3, size) for size in config.modulation_sizes)

        def forward(self, support, labels, modality, n_way):
            return tuple(head(support.mean(dim=(1, 3, 4))) for head in self.heads)

    register_task_encoder("mean_colour", MeanColour)
    model, batch = picture_model(conditioning="affine", task_encoder="mean_colour"), picture_batch()
    modulation = model({"image": batch}).modulation["image"]
    colours = (batch["support"].double() / 255).mean(dim=(1, 3, 4))
    torch.testing.assert_close(modulation[1], model.task_encoder.heads[1](colours))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modalities": ["audio"]}, r"conv2d' reads pictures alone, but modalities=\['audio'\]"),
        ({"modalities": ["image", "text"]}, "reads pictures alone"),
        ({"front_ends": "fitted"}, "front_ends='fitted' has no effect with task_network='conv2d'"),
        ({"dropout": 0.1, "adapted_parameters": "head"}, "dropout=0.1 has no effect"),
        ({"level_rank": 3}, "level_rank=3 has no effect"),
        ({"conditioning": "kernel"}, "conditioning='kernel' modulates kernels of sequences"),
        ({"num_channels": 8}, "num_channels=8 has no effect with layer_widths"),
        ({"image_patch_size": 4}, "image_patch_size=4 has no effect"),
        ({"image_size": 2, "stride": 3, "padding": 0}, "image_size=2 is too small for layer 0, of pictures of 2 x 2"),
        ({"stride": 1, "max_pooling": True, "image_size": 3}, "image_size=3 is too small for layer 1"),
        ({"layer_widths": [4, 4, 4]}, r"layer_widths=\[4, 4, 4\] must have one integer for each of num_layers=2"),
        ({"layer_widths": [2**21, 4]}, r"layer_widths=\[2097152, 4\] would make 2,097,152 channels: at most 1,048,576"),
        ({"layer_widths": [4, 0]}, r"layer_widths=\[4, 0\] must be an integer of at least 1"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLModel(picture_config(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_pooling": True}, "max_pooling=True has no effect with task_network='conv1d'"),
        ({"pooling": "flatten"}, "pooling='flatten' needs inputs of one size: take task_network='conv2d'"),
    ],
)
def test_what_only_pictures_have_is_refused_of_sequences(changes, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLModel(MSMAMLConfig(**changes))


def test_pictures_of_another_shape_are_refused():
    batch = picture_batch(channels=1)
    with pytest.raises(ValueError, match=r"an image has shape \(1, 8, 8\), but this model takes \(3, 8, 8\)"):
        picture_model()({"image": batch})

"""The task encoders over pictures: against a plain rewrite with PyTorch's GRU in float64, saving, and refusals."""

import pytest
import torch

from modeling_msmaml import MSMAMLConfig, MSMAMLModel

from .. import picture_reference
from ..pictures import assert_plain_gradients, picture_batch, picture_config, picture_model
from .test_outer_gradient import finite_difference, gradients, random_direction

ENCODERS = {
    "ConvGRU": {"task_encoder": "conv_gru", "conditioning": "affine"},
    "two layers": {"task_encoder": "conv_gru", "conditioning": "sigmoid", "task_encoder_gru_layers": 2},
    "wide kernels": {"task_encoder": "conv_gru", "conditioning": "softmax", "task_encoder_kernel_size": 5},
    "without a GRU": {"task_encoder": "conv2d", "conditioning": "affine"},
}
every_encoder = pytest.mark.parametrize("name", ENCODERS)


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@every_encoder
def test_mmaml_and_its_outer_gradient_are_those_of_a_plain_rewrite(name, first_order):
    model = picture_model(**ENCODERS[name], first_order=first_order, norm_affine=True)
    assert_plain_gradients(model, picture_batch(), picture_reference.conv2d_logits, picture_reference.encode)


@every_encoder
def test_modulation_is_that_of_a_plain_rewrite(name):
    model, batch = picture_model(**ENCODERS[name]), picture_batch(tasks=3)
    modulation = model.eval()({"image": batch}).modulation["image"]
    for task, support in enumerate(batch["support"]):
        expected = picture_reference.encode(model, support.double() / 255, dict(model.named_parameters()))
        for actual, own in zip(modulation, expected, strict=True):
            torch.testing.assert_close(actual[task], own, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["batch", "group", "task"])
@every_encoder
def test_outer_gradient_agrees_with_finite_differences(name, norm):
    model, episodes = picture_model(**ENCODERS[name], norm=norm).train(), {"image": picture_batch()}
    _, actual = gradients(model, episodes)
    names = [own for own, gradient in actual.items() if own.startswith("task_encoder.") and gradient is not None]
    direction = random_direction(model, names, torch.Generator().manual_seed(2))
    numerical = finite_difference(model, episodes, direction, 1e-8)  # no ReLU changes sides
    analytical = sum(float((actual[own] * along).sum()) for own, along in direction.items())
    assert analytical == pytest.approx(numerical, rel=1e-4)


def test_conv_gru_reads_samples_in_their_order_and_conv2d_does_not():
    batch = picture_batch(tasks=1)
    turned = {**batch, "support": batch["support"].flip(1), "support_labels": batch["support_labels"].flip(1)}
    for name, depends in (("ConvGRU", True), ("without a GRU", False)):
        model = picture_model(**ENCODERS[name]).eval()
        one, other = (model({"image": own}).modulation["image"][0] for own in (batch, turned))
        assert torch.allclose(one, other, rtol=1e-8) is not depends


def test_classes_are_pooled_as_with_sequences():
    batch = picture_batch(tasks=1)
    model = picture_model(**ENCODERS["without a GRU"], task_encoder_pooling="class").eval()
    pictures, labels = batch["support"].double() / 255, batch["support_labels"]
    alike = pictures[:, :1].expand_as(pictures)
    spread = [encoded.norm() for encoded in (_task_of(model, own, labels)[:, 6:] for own in (alike, pictures))]
    assert spread[0] < 0.1 < spread[1]


def _task_of(model, pictures, labels):
    found = []
    hook = model.task_encoder.modulations[0].register_forward_hook(
        lambda module, inputs, output: found.append(inputs[0])
    )
    model.task_encoder(pictures, labels, "image", 3)
    hook.remove()
    return found[0]


def test_conv_gru_modulates_the_network_over_sequences():
    """The registries are independent: the encoder reads pixels, whatever the task network reads."""
    config = MSMAMLConfig(
        **{**picture_config().own_values(), **ENCODERS["ConvGRU"], "task_network": "conv1d", "image_patch_size": 2}
    )
    torch.manual_seed(0)
    model, batch = MSMAMLModel(config).double(), picture_batch()
    model({"image": batch}).loss.backward()
    assert model.task_encoder.gru.weight_ih_l0.grad.abs().sum() > 0


@every_encoder
def test_saved_model_comes_back(name, tmp_path):
    model, batch = picture_model(torch.float32, **ENCODERS[name]), {"image": picture_batch()}
    model.save_pretrained(tmp_path)
    loaded = MSMAMLModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.eval()(batch).logits["image"], model.eval()(batch).logits["image"])


def test_modulation_that_changes_nothing_at_first():
    changed = {name: picture_model(**ENCODERS["ConvGRU"], modulation_init=name) for name in ("identity", "default")}
    plain, batch = picture_model(), {"image": picture_batch()}
    logits = {name: model.eval()(batch).logits["image"] for name, model in {**changed, "none": plain}.items()}
    plain.task_network.load_state_dict(changed["identity"].task_network.state_dict())
    torch.testing.assert_close(plain(batch).logits["image"], logits["identity"])
    assert not torch.allclose(logits["default"], logits["identity"])


def test_autocast_computes_in_half_precision():
    model, batch = picture_model(torch.float32, **ENCODERS["ConvGRU"]).train(), {"image": picture_batch()}
    exact = model(batch).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(batch)
    output.loss.backward()
    assert output.loss.item() == pytest.approx(exact.item(), rel=0.1)
    assert model.task_encoder.gru.weight_ih_l0.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_network": "conv1d", "modalities": ["image", "audio"]}, "task_encoder='conv_gru' reads pictures alone"),
        ({"task_network": "conv1d", "front_ends": "fitted"}, "reads pixels, but image has fitted front ends"),
        ({"share_embeddings": True}, "share_embeddings=True has no effect with task_encoder='conv_gru'"),
        ({"task_encoder_pooling": "class"}, "task_encoder_pooling='class' has no effect with task_encoder='conv_gru'"),
        ({"task_encoder": "conv2d", "task_encoder_gru_layers": 2}, "task_encoder_gru_layers=2 has no effect without"),
        ({"conditioning": "none"}, "task_encoder='conv_gru' has no effect with conditioning='none'"),
        ({"task_encoder": "lstm"}, "task_encoder='lstm' is unknown; registered are conv1d, conv2d, conv_gru"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MSMAMLModel(picture_config(**{**ENCODERS["ConvGRU"], **changes}))

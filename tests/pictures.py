"""Small task networks over pictures, and meta-batches for them, that tests share."""

import torch

from modeling_msmaml import MSMAMLConfig, MSMAMLModel

from . import picture_reference
from .model.test_outer_gradient import gradients

N_WAY, K_SHOT, N_QUERY, SIDE = 3, 2, 2, 8


def picture_config(**changes) -> MSMAMLConfig:
    """A network of two layers on pictures of eight pixels' side."""
    options = {
        "modalities": ["image"],
        "task_network": "conv2d",
        "n_way": N_WAY,
        "layer_widths": [4, 5],
        "num_layers": 2,
        "kernel_size": 3,
        "image_size": SIDE,
        "num_inner_steps": 3,
        "inner_lr": 0.1,
        "task_encoder_hidden_size": 6,
        "conditioning": "none",
    }
    return MSMAMLConfig(**{**options, **changes})


def picture_model(dtype=torch.float64, **changes) -> MSMAMLModel:
    """Its scales and shifts are not those that training starts from."""
    torch.manual_seed(0)
    model = MSMAMLModel(picture_config(**changes)).to(dtype)
    for name, parameter in model.task_network.named_parameters():
        if name.startswith("affine_norm."):
            parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def picture_batch(tasks: int = 2, channels: int = 3, side: int = SIDE) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def pictures(samples):
        shape = (tasks, N_WAY * samples, channels, side, side)
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    def labels(samples):
        return torch.arange(N_WAY).repeat_interleave(samples).repeat(tasks, 1)

    return {
        "support": pictures(K_SHOT),
        "support_labels": labels(K_SHOT),
        "query": pictures(N_QUERY),
        "query_labels": labels(N_QUERY),
    }


def assert_plain_gradients(model, batch, logits_of, encode, adapted=lambda name: True):
    loss, actual = gradients(model, {"image": batch})
    expected_loss, expected = picture_reference.outer_gradient(model, batch, logits_of, encode, adapted)
    torch.testing.assert_close(loss, expected_loss, rtol=1e-10, atol=1e-10)
    largest = max(float(value.abs().max()) for value in expected.values() if value is not None)
    for name, gradient in expected.items():
        gradient = torch.zeros_like(actual[name]) if gradient is None else gradient
        torch.testing.assert_close(actual[name], gradient, rtol=1e-10, atol=1e-10 * max(1.0, largest), msg=name)

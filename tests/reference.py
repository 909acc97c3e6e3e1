"""
MS-MAML again, the plain way: a loop over tasks, `torch.autograd.grad`, `F.conv1d` and `F.batch_norm`, written from the
formulas of the design without the code under test. In float64 it is exact.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_msmaml import MSMAMLModel


def frontend(model: MSMAMLModel, modality: str, raw: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    if modality == "text":
        return F.embedding(raw.long(), parameters["frontends.text.weight"], padding_idx=0)
    return raw.to(model.dtype) / {"audio": 32767, "image": 255}[modality]


def embed(model: MSMAMLModel, modality: str, inputs: Tensor, parameters: dict[str, Tensor], prefix: str) -> Tensor:
    config = model.config
    if modality == "audio":
        weight = parameters[f"{prefix}embeddings.audio.proj.weight"]
        return F.conv1d(inputs[:, None], weight, stride=config.audio_patch_size)
    if modality == "text":
        weight = parameters[f"{prefix}embeddings.text.proj.weight"]
        return F.conv1d(inputs.transpose(1, 2), weight, stride=config.text_patch_size)
    weight = parameters[f"{prefix}embeddings.image.patches.proj.weight"]
    return F.conv2d(inputs, weight, stride=config.image_patch_size).flatten(2)


def encode(model: MSMAMLModel, modality: str, support: Tensor, parameters: dict[str, Tensor]) -> list[Tensor]:
    config, prefix = model.config, "task_encoder."
    if config.conditioning == "none":
        return []
    hidden = embed(model, modality, support, parameters, prefix)
    for layer in range(config.num_layers):
        weight, bias = (parameters[f"{prefix}convolutions.{layer}.{kind}"] for kind in ("weight", "bias"))
        hidden = F.conv1d(hidden, weight, bias, padding=config.task_encoder_kernel_size // 2)
        scale, shift = (parameters[f"{prefix}norms.{layer}.{kind}"] for kind in ("weight", "bias"))
        hidden = F.relu(F.batch_norm(hidden, None, None, scale, shift, training=True, eps=config.norm_eps))
    task = F.relu(
        F.linear(hidden.mean(2), parameters[f"{prefix}projection.weight"], parameters[f"{prefix}projection.bias"])
    ).mean(0)
    return [
        F.linear(
            task, parameters[f"{prefix}modulations.{layer}.weight"], parameters[f"{prefix}modulations.{layer}.bias"]
        )
        for layer in range(config.num_layers)
    ]


def classify(model, modality, inputs, fast, modulation, companions=None):
    """
    Logits of `inputs`. With `companions` (the support set), batch norm's mean and variance are theirs: they go through
    the network beside the inputs, and `F.batch_norm` gets their statistics as running ones.
    """
    config = model.config
    hidden = embed(model, modality, inputs, fast, "")
    beside = None if companions is None else embed(model, modality, companions, fast, "")
    for layer in range(config.num_layers):
        weight, bias = fast[f"convolutions.{layer}.weight"], fast[f"convolutions.{layer}.bias"]
        stride, padding = config.per_layer("stride")[layer], config.per_layer("padding")[layer]
        if config.conditioning == "kernel":
            rows, columns = modulation[layer][: weight.shape[0]], modulation[layer][weight.shape[0] :]
            weight = torch.einsum("oik,oi->oik", weight, 1 + rows[:, None] + columns[None, :])

        def finish(values, layer=layer):
            if config.conditioning == "affine":
                channels = values.shape[1]
                values = values * (1 + modulation[layer][:channels, None]) + modulation[layer][channels:, None]
            elif config.conditioning == "sigmoid":
                values = values * modulation[layer].sigmoid()[:, None]
            elif config.conditioning == "softmax":
                values = values * modulation[layer].softmax(0)[:, None]
            return values.relu()

        hidden = F.conv1d(hidden, weight, bias, stride, padding)
        if beside is None:
            hidden = F.batch_norm(hidden, None, None, training=True, eps=config.norm_eps)
        else:
            beside = F.conv1d(beside, weight, bias, stride, padding)
            mean = beside.mean((0, 2), keepdim=True)
            variance = beside.var((0, 2), keepdim=True, unbiased=False)
            hidden = (hidden - mean) / (variance + config.norm_eps).sqrt()
            beside = finish(F.batch_norm(beside, None, None, training=True, eps=config.norm_eps))
        hidden = finish(hidden)
    return F.linear(hidden.mean(2), fast["classifier.weight"], fast["classifier.bias"])


def descend(step: int, fast: dict[str, Tensor], gradients: dict[str, Tensor], state: dict, model: MSMAMLModel):
    """One step of clamped gradient descent."""
    clip = model.config.inner_grad_clip or float("inf")
    return {name: fast[name] - model.config.inner_lr * g.clamp(-clip, clip) for name, g in gradients.items()}


def loss(
    model: MSMAMLModel,
    episodes: dict,
    parameters: dict[str, Tensor],
    step=descend,
    is_adapted=lambda name: True,
    used=lambda fast, modulation: (fast, modulation),
) -> Tensor:
    """
    Mean query cross-entropy over all tasks, differentiable with respect to `parameters` (names as in the model).

    Args:
        step: the inner optimiser, as `descend`; the state is a dict that belongs to the task.
        is_adapted: whether the inner loop adapts the parameter of this name.
        used: parameters and modulation as the network uses them.
    """
    config, losses = model.config, []
    for modality, batch in episodes.items():
        for task in range(len(batch["support"])):
            support = frontend(model, modality, batch["support"][task], parameters)
            query = frontend(model, modality, batch["query"][task], parameters)
            modulation = encode(model, modality, support, parameters)
            fast = {
                name.removeprefix("task_network."): value
                for name, value in parameters.items()
                if name.startswith("task_network.")
                and (".embeddings." not in name or f".embeddings.{modality}." in name)
            }
            adapted, state = list(filter(is_adapted, fast)), {}
            for number in range(config.num_inner_steps):
                logits = classify(model, modality, support, *used(fast, modulation))
                support_loss = F.cross_entropy(logits, batch["support_labels"][task])
                gradients = torch.autograd.grad(
                    support_loss,
                    [fast[name] for name in adapted],
                    create_graph=not config.first_order,
                    retain_graph=True,
                )
                fast = fast | step(number, fast, dict(zip(adapted, gradients, strict=True)), state, model)
            companions = support if config.norm_statistics == "support" else None
            logits = classify(model, modality, query, *used(fast, modulation), companions)
            losses.append(F.cross_entropy(logits, batch["query_labels"][task]))
    return torch.stack(losses).mean()


def outer_gradient(model: MSMAMLModel, episodes: dict, **hooks) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss, and its gradient with respect to every trained parameter that takes part. Hooks are those of `loss`."""
    parameters = dict(model.named_parameters())
    trained = {name: value for name, value in parameters.items() if value.requires_grad}
    value = loss(model, episodes, parameters, **hooks)
    gradients = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
    return value, dict(zip(trained, gradients, strict=True))

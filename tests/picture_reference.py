"""
Task networks over pictures again, the plain way: a loop over tasks, `F.conv2d`, `F.batch_norm` and
`torch.autograd.grad`, without the code under test. In float64 it is exact.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling_msmaml import MSMAMLModel

from . import reference


def normalised(hidden: Tensor, fast: dict[str, Tensor], number: int, eps: float) -> Tensor:
    """Batch norm by the statistics of the batch at hand, with a scale and a shift where there are any."""
    scale, shift = (fast.get(f"affine_norm.{number}.{name}") for name in ("weight", "bias"))
    return F.batch_norm(hidden, None, None, scale, shift, training=True, eps=eps)


def modulated(hidden: Tensor, modulation: Tensor, conditioning: str) -> Tensor:
    if conditioning == "affine":
        scale, shift = modulation.chunk(2)
        return hidden * (1 + scale)[:, None, None] + shift[:, None, None]
    gates = {"sigmoid": torch.sigmoid, "softmax": lambda values: values.softmax(0)}
    return hidden * gates[conditioning](modulation)[:, None, None]


def conv2d_logits(config, fast: dict[str, Tensor], pictures: Tensor, modulation: list[Tensor]) -> Tensor:
    """Conv-4 of MAML and, with a modulation, the gated one of MMAML."""
    hidden = pictures
    for layer in range(config.num_layers):
        weight, bias = fast[f"convolutions.{layer}.weight"], fast[f"convolutions.{layer}.bias"]
        hidden = F.conv2d(hidden, weight, bias, config.per_layer("stride")[layer], config.per_layer("padding")[layer])
        hidden = normalised(hidden, fast, layer, config.norm_eps)
        if modulation:
            hidden = modulated(hidden, modulation[layer], config.conditioning)
        hidden = hidden.relu()
        if config.max_pooling:
            hidden = F.max_pool2d(hidden, 2)
    pooled = hidden.flatten(1) if config.pooling == "flatten" else hidden.mean((2, 3))
    return F.linear(pooled, fast["classifier.weight"], fast["classifier.bias"])


def resnet12_logits(config, fast: dict[str, Tensor], pictures: Tensor, modulation: list[Tensor], kept=None) -> Tensor:
    """ResNet-12; `kept` are the factors of each layer's output."""
    hidden = pictures
    for layer in range(config.num_layers):
        inputs = hidden
        for number in range(3):
            hidden = F.conv2d(hidden, fast[f"convolutions.{3 * layer + number}.weight"], padding=1)
            hidden = normalised(hidden, fast, 4 * layer + number, config.norm_eps)
            if number < 2:
                hidden = F.leaky_relu(hidden, 0.1)
        if modulation:
            hidden = modulated(hidden, modulation[layer], config.conditioning)
        shortcut = F.conv2d(inputs, fast[f"shortcuts.{layer}.weight"])
        hidden = hidden + normalised(shortcut, fast, 4 * layer + 3, config.norm_eps)
        hidden = F.max_pool2d(F.leaky_relu(hidden, 0.1), 2)
        if kept is not None:
            hidden = hidden * kept[layer]
    pooled = hidden.flatten(1) if config.pooling == "flatten" else hidden.mean((2, 3))
    return F.linear(pooled, fast["classifier.weight"], fast["classifier.bias"])


def encode(model: MSMAMLModel, support: Tensor, parameters: dict[str, Tensor]) -> list[Tensor]:
    """The modulation of a support set by an encoder over pictures; its recurrent part is PyTorch's."""
    config = model.config
    if config.conditioning == "none":
        return []
    own = {n.removeprefix("task_encoder."): p for n, p in parameters.items() if n.startswith("task_encoder.")}
    hidden, padding = support, config.task_encoder_kernel_size // 2
    for layer in range(config.num_layers):
        hidden = F.conv2d(hidden, own[f"convolutions.{layer}.weight"], own[f"convolutions.{layer}.bias"], 2, padding)
        scale, shift = own[f"norms.{layer}.weight"], own[f"norms.{layer}.bias"]
        hidden = F.batch_norm(hidden, None, None, scale, shift, training=True, eps=config.norm_eps).relu()
    samples = hidden.mean((2, 3))
    if config.task_encoder == "conv_gru":
        size, layers = config.task_encoder_hidden_size, config.task_encoder_gru_layers
        gru = torch.nn.GRU(samples.shape[1], size, layers, bidirectional=True).to(samples.dtype)
        weights = {n.removeprefix("gru."): p for n, p in own.items() if n.startswith("gru.")}
        outputs, _ = torch.func.functional_call(gru, weights, (samples,))
        task = torch.cat([outputs[-1, :size], outputs[0, size:]])
    else:
        task = F.linear(samples, own["projection.weight"], own["projection.bias"]).relu().mean(0)
    return [
        F.linear(task, own[f"modulations.{layer}.weight"], own[f"modulations.{layer}.bias"])
        for layer in range(config.num_layers)
    ]


def loss(model: MSMAMLModel, batch: dict, parameters: dict[str, Tensor], logits_of, encode, adapted) -> Tensor:
    """
    Mean query cross-entropy over tasks of pictures, differentiable with respect to `parameters`, named as in the model.

    Args:
        logits_of: as `conv2d_logits`.
        encode: the modulation of a support set.
        adapted: whether the inner loop adapts the parameter of this name.
    """
    config, losses = model.config, []
    for task in range(len(batch["support"])):
        support, query = (batch[name][task].to(model.dtype) / 255 for name in ("support", "query"))
        modulation = encode(model, support, parameters)
        fast = {n.removeprefix("task_network."): p for n, p in parameters.items() if n.startswith("task_network.")}
        names, state = list(filter(adapted, fast)), {}
        for number in range(config.num_inner_steps):
            value = F.cross_entropy(logits_of(config, fast, support, modulation), batch["support_labels"][task])
            gradients = torch.autograd.grad(value, [fast[n] for n in names], create_graph=not config.first_order)
            fast |= reference.descend(number, fast, dict(zip(names, gradients, strict=True)), state, model)
        losses.append(F.cross_entropy(logits_of(config, fast, query, modulation), batch["query_labels"][task]))
    return torch.stack(losses).mean()


def outer_gradient(model, batch, logits_of, encode, adapted) -> tuple[Tensor, dict[str, Tensor | None]]:
    """The loss, and its gradient with respect to each parameter of the model."""
    parameters = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters() if p.requires_grad}
    value = loss(model, batch, parameters, logits_of, encode, adapted)
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    return value.detach(), dict(zip(parameters, gradients, strict=True))

"""
The network of the published implementation as a plain `nn.Module` for one task and one modality, and the ways in which
other libraries run MAML's inner loop on it: what `meta_step.py` compares with.

Every contender adapts all parameters of the module for `num_inner_steps` steps of SGD without clamping and returns the
query loss of one task, still attached to the model's parameters.
"""

import importlib
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling_msmaml import MSMAMLModel


class PlainNetwork(nn.Module):
    """The task network of one modality on `F.conv1d` and `F.batch_norm`; it shares the model's parameters."""

    def __init__(self, model: MSMAMLModel, modality: str):
        super().__init__()
        self.config, self.modality = model.config, modality
        self.embedding = projection(model.task_network.embeddings[modality], modality)
        self.convolutions = model.task_network.convolutions
        self.classifier = model.task_network.classifier

    def forward(self, inputs: Tensor, modulation: list[Tensor]) -> Tensor:
        config = self.config
        hidden = embed(inputs, self.embedding.weight)
        for layer, convolution in enumerate(self.convolutions):
            stride, padding = config.per_layer("stride")[layer], config.per_layer("padding")[layer]
            hidden = F.conv1d(hidden, convolution.weight, convolution.bias, stride, padding)
            hidden = F.batch_norm(hidden, None, None, training=True, eps=config.norm_eps)
            scale, shift = modulation[layer].chunk(2)
            hidden = F.relu(hidden * (1 + scale[:, None]) + shift[:, None])
        return self.classifier(hidden.mean(dim=2))


def projection(embedding: nn.Module, modality: str) -> nn.Module:
    """The convolution of an embedding."""
    return embedding.patches.proj if modality == "image" else embedding.proj


def embed(inputs: Tensor, weight: Tensor) -> Tensor:
    """Samples as a frontend leaves them to (batch, C, L), by a convolution whose stride is its kernel."""
    if weight.dim() == 4:
        return F.conv2d(inputs, weight, stride=weight.shape[-1]).flatten(2)
    sequences = inputs[:, None] if inputs.dim() == 2 else inputs.transpose(1, 2)
    return F.conv1d(sequences, weight, stride=weight.shape[-1])


def encode(model: MSMAMLModel, modality: str, support: Tensor) -> list[Tensor]:
    """The task encoder on `F.conv1d` and `F.batch_norm`: one modulation vector per layer."""
    encoder, config = model.task_encoder, model.config
    hidden = embed(support, projection(encoder.embeddings[modality], modality).weight)
    for convolution, norm in zip(encoder.convolutions, encoder.norms, strict=True):
        hidden = F.conv1d(hidden, convolution.weight, convolution.bias, padding=config.task_encoder_kernel_size // 2)
        hidden = F.relu(F.batch_norm(hidden, None, None, norm.weight, norm.bias, training=True, eps=config.norm_eps))
    task = F.relu(encoder.projection(hidden.mean(dim=2))).mean(dim=0)
    return [modulation(task) for modulation in encoder.modulations]


class Task:
    """One task of a meta-batch: modulation, and losses as functions of a network."""

    def __init__(self, model: MSMAMLModel, modality: str, batch: dict[str, Tensor], index: int):
        frontend, parts = model.frontends[modality], ("support", "query")
        self.inputs = {part: frontend(batch[part][index], model.dtype) for part in parts}
        self.labels = {part: batch[f"{part}_labels"][index] for part in parts}
        self.modulation = encode(model, modality, self.inputs["support"])

    def loss(self, part: str, network: Callable[[Tensor, list[Tensor]], Tensor]) -> Tensor:
        """Of the `"support"` or the `"query"` set."""
        return F.cross_entropy(network(self.inputs[part], self.modulation), self.labels[part])


def plain_loss(network: PlainNetwork, task: Task, evaluation: bool = False) -> Tensor:
    """
    The loop of the published implementation, `torch.autograd.grad(create_graph=True)`.

    Args:
        network: of one modality.
        task: of that modality.
        evaluation: no graph outlives its inner step, so that the loss has no gradient (under `torch.no_grad`).
    """
    parameters = dict(network.named_parameters())
    for _ in range(network.config.num_inner_steps):
        with torch.enable_grad():
            if evaluation:
                parameters = {name: parameter.detach().requires_grad_() for name, parameter in parameters.items()}
            loss = task.loss("support", partial(_call, network, parameters))
            gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=not evaluation)
        parameters = {
            name: parameter - network.config.inner_lr * gradient
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
        }
    return task.loss("query", partial(_call, network, parameters))


def _call(network: PlainNetwork, parameters: dict[str, Tensor], *inputs) -> Tensor:
    return torch.func.functional_call(network, parameters, inputs)


def higher_loss(network: PlainNetwork, task: Task) -> Tensor:
    """`higher.innerloop_ctx`."""
    import higher

    optimizer = torch.optim.SGD(network.parameters(), lr=network.config.inner_lr)
    with higher.innerloop_ctx(network, optimizer, copy_initial_weights=False) as (fast, fast_optimizer):
        for _ in range(network.config.num_inner_steps):
            fast_optimizer.step(task.loss("support", fast))
        return task.loss("query", fast)


def torchopt_loss(network: PlainNetwork, task: Task) -> Tensor:
    """`torchopt.MetaSGD`."""
    import torchopt

    optimizer = torchopt.MetaSGD(network, lr=network.config.inner_lr)
    start = torchopt.extract_state_dict(network, by="reference")
    for _ in range(network.config.num_inner_steps):
        optimizer.step(task.loss("support", network))
    loss = task.loss("query", network)
    torchopt.recover_state_dict(network, start)
    return loss


def learn2learn_loss(network: PlainNetwork, task: Task) -> Tensor:
    """`learn2learn.algorithms.MAML`."""
    maml = importlib.import_module("learn2learn.algorithms.maml")
    learner = maml.MAML(network, lr=network.config.inner_lr, first_order=False).clone()
    for _ in range(network.config.num_inner_steps):
        learner.adapt(task.loss("support", learner))
    return task.loss("query", learner)


def use_learn2learn_sources(folder: Path) -> None:
    """
    Makes `learn2learn.algorithms.maml` importable from an unpacked source distribution, whose Cython parts do not
    build with current compilers: the packages on the way to it are made empty.
    """
    for name, path in (("learn2learn", folder), ("learn2learn.algorithms", folder / "algorithms")):
        module = types.ModuleType(name)
        module.__path__ = [str(path)]
        sys.modules[name] = module


LOSSES = {"plain": plain_loss, "higher": higher_loss, "torchopt": torchopt_loss, "learn2learn": learn2learn_loss}

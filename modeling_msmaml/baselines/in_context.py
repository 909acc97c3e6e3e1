"""`task_network="in_context"`: a transformer over support and query features, after CAML (Fifty et al. 2024)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import initialization as init

from ..model.configuration_msmaml import MSMAMLConfig
from ..model.options import at_least, option
from ..model.task_networks import register_task_network
from .attention import Attention
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import class_means


@dataclass(frozen=True)
class InContextOptions:
    """The `task_network_kwargs` of `"in_context"`."""

    num_layers: int = option(2, "The number of layers of the transformer.", at_least(1))
    num_heads: int = option(4, "The number of attention heads, which divides `size`.", at_least(1))
    size: int = option(64, "The size of a token, half of which is the label: tasks may have half as many classes.")
    labels: Literal["etf", "orthonormal"] = option(
        "etf", "The label vectors: a simplex equiangular tight frame of the task's classes, or orthonormal codes."
    )


class Codes(nn.Module):
    """Random orthonormal vectors, one for each class that a task may have; not trained, but saved with the model."""

    vectors: Float[Tensor, "most size"]

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("vectors", torch.empty(size, size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        drawn = torch.randn(*self.vectors.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        init.copy_(self.vectors, torch.linalg.qr(drawn)[0].to(self.vectors))

    def of(self, n_way: int, kind: str) -> Float[Tensor, "N size"]:
        """
        The label vectors of a task, of unit length.

        Raises:
            `ValueError`: there are more classes than vectors.
        """
        if n_way > len(self.vectors):
            raise ValueError(
                f"n_way={n_way}, but the model has label vectors for {len(self.vectors)} classes: train one with "
                f"task_network_kwargs={{'size': {2 * n_way}}} or more"
            )
        vectors = self.vectors[:n_way]
        return vectors if kind == "orthonormal" else (n_way / (n_way - 1)) ** 0.5 * (vectors - vectors.mean(dim=0))


class Layer(nn.Module):
    """A layer of a transformer with the norms first: x + attention(norm(x)), then x + perceptron(norm(x))."""

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(2))
        self.attention = Attention(size, heads)
        self.perceptron = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, tokens: Float[Tensor, "T n size"], hidden: Tensor) -> Float[Tensor, "T n size"]:
        tokens = tokens + self.attention(self.norms[0](tokens), hidden)
        return tokens + self.perceptron(self.norms[1](tokens))


class InContextTasks(BaselineTasks):
    """
    A token is a linear map of a sample's features beside a label vector: that of its class, or a trained one for a
    query. Support tokens see each other, a query sees them and itself, in no order; the logit of a class is the product
    of what comes out of a query's token, mapped to the size of a label vector, and that of the class (after CAML,
    arXiv 2310.10971, whose features are frozen: give `level_encoders`).

    Which class has which label vector follows from the classes themselves, by the order of their means along a fixed
    direction, so that no class number matters.
    """

    options_class = InContextOptions
    has_layers = True
    description = (
        "A transformer reads the features of labelled examples and of an input, with a label vector for each class, "
        "and says the label of the input (after CAML, [arXiv 2310.10971](https://arxiv.org/abs/2310.10971))."
    )

    def check(self, config: MSMAMLConfig) -> None:
        super().check(config)
        own = InContextOptions(**self.options(config))
        if own.size < 2 or own.size % 2 or own.size % own.num_heads:
            raise ValueError(
                f"task_network_kwargs: size={own.size} must be even, and a multiple of num_heads={own.num_heads}"
            )

    def parts(self, config: MSMAMLConfig, size: int) -> dict[str, nn.Module]:
        own = InContextOptions(**self.options(config))
        half = own.size // 2
        return {
            "codes": Codes(half),
            "sample": nn.Linear(size, own.size - half),
            "unknown": nn.Embedding(1, half),
            "layers": nn.ModuleList(Layer(own.size, own.num_heads) for _ in range(own.num_layers)),
            "norm": nn.LayerNorm(own.size),
            "answer": nn.Linear(own.size, half),
        }

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        codes = model.task_network.codes.of(n_way, InContextOptions(**self.options(model.config)).labels)
        direction = torch.arange(features.shape[2]).to(features).cos()
        order = (class_means(features, labels, n_way).detach() @ direction).argsort(dim=1)
        of_classes = codes[order.argsort(dim=1)].to(features)  # the place of each class in that order
        of_samples = of_classes.gather(1, labels[..., None].expand(-1, -1, of_classes.shape[2]))
        tokens = torch.cat([model.task_network.sample(features), of_samples], dim=2)
        return Solved({"tokens": tokens, "codes": of_classes})

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        network, support = model.task_network, tensors["tokens"]
        unknown = network.unknown.weight.expand(*queries.shape[:2], -1)
        tokens = torch.cat([support, torch.cat([network.sample(queries), unknown], dim=2)], dim=1)
        number = tokens.shape[1]
        hidden = ~torch.eye(number, dtype=torch.bool, device=tokens.device)
        hidden[:, : support.shape[1]] = False
        for layer in network.layers:
            tokens = layer(tokens, hidden)
        answers = network.answer(network.norm(tokens[:, support.shape[1] :]))
        return answers @ tensors["codes"].transpose(1, 2)


register_task_network("in_context", InContextTasks())

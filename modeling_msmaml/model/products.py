"""
Matrix products on the CPU, by the faster of the two libraries that PyTorch brings.

`torch.bmm` computes products in float32 with MKL, which on processors other than Intel's leaves half of their vector
units unused. oneDNN, with which PyTorch computes convolutions, uses them all. Which is faster is found out once, when
this module is imported, and never by a processor's name; the environment variable `MSMAML_PRODUCTS`, "bmm" or "onednn",
says so instead, for who wants the same rounding on two machines.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# How many times as fast oneDNN must be. The two are either nearly equal or a factor of two apart, and one machine is to
# take the same in every run, since they round differently.
CLEARLY_FASTER = 1.4
VARIABLE = "MSMAML_PRODUCTS"


def with_bmm(first: Tensor, second: Tensor) -> Tensor:
    """Returns the product of (T, M, K) and (T, K, N), (T, M, N)."""
    return torch.bmm(first, second)


def with_onednn(first: Tensor, second: Tensor) -> Tensor:
    """The same; large products of a single task in float32 on the CPU are oneDNN's."""
    if not torch.jit.is_scripting():  # noqa: SIM102  # pyright: ignore[reportPrivateImportUsage]
        if torch.compiler.is_exporting():  # other runtimes than PyTorch's do not know oneDNN's operator
            return torch.bmm(first, second)
    # A call of oneDNN's takes some microseconds more, which a smaller product does not win back.
    large = first.shape[1] * first.shape[2] * second.shape[2] >= 2**20
    if large and first.shape[0] == 1 and first.dtype == torch.float32 and first.is_cpu:
        return torch.ops.mkldnn._linear_pointwise(first[0], second[0].t(), None, "none", [], "").unsqueeze(0)
    return torch.bmm(first, second)


def takes_onednn() -> bool:
    """Whether oneDNN is chosen, or measures faster: both run on one thread, which takes a few milliseconds."""
    chosen = os.environ.get(VARIABLE)
    if chosen not in (None, "", "bmm", "onednn"):
        raise ValueError(f"{VARIABLE}={chosen!r} must be 'bmm' or 'onednn'")
    if chosen == "bmm" or not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    if chosen == "onednn":
        return True
    first, second = (torch.ones(shape, dtype=torch.float32, device="cpu") for shape in ((1, 160, 320), (1, 320, 128)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        least = [_least_seconds(product, first, second) for product in (with_bmm, with_onednn)]
    finally:
        torch.set_num_threads(threads)
    return least[0] > CLEARLY_FASTER * least[1]


def _least_seconds(product: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor) -> float:
    product(first, second)
    least = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        product(first, second)
        least = min(least, time.perf_counter() - start)
    return least


product = with_onednn if takes_onednn() else with_bmm


class _Linear(torch.autograd.Function):
    """`linear` of a matrix as a node of autograd's graph, which can be differentiated any number of times."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return product(inputs[None], weight.t()[None])[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (inputs, weight), (gradient,) = ctx.saved_tensors, gradients
        to_inputs, to_weight = ctx.needs_input_grad
        return (
            _Linear.apply(gradient, weight.t()) if to_inputs else None,
            _Linear.apply(gradient.t(), inputs.t()) if to_weight else None,
        )


def linear(
    inputs: Float[Tensor, "*batch in_features"], weight: Float[Tensor, "out_features in_features"]
) -> Float[Tensor, "*batch out_features"]:
    """Computes what `F.linear` does without a bias."""
    if product is with_bmm or torch.compiler.is_exporting():
        return torch.nn.functional.linear(inputs, weight)
    # A function of autograd that `torch.vmap` takes costs several times as much Python in every call.
    in_vmap = torch._C._are_functorch_transforms_active()  # pyright: ignore[reportAttributeAccessIssue]
    single = inputs.is_cpu and inputs.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if in_vmap or not single or inputs.numel() * len(weight) < 2**20:
        return torch.nn.functional.linear(inputs, weight)
    return _Linear.apply(inputs.flatten(0, -2), weight).unflatten(0, inputs.shape[:-1])

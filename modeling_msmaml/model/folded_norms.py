"""Batch norms of frozen networks folded into the convolutions ahead of them, which saves a pass over each map."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_CLOSE = 1e-4  # of the largest output, in float32; a fold in a wrong place is off by far more


class FoldedNorms:
    """
    Keeps a folded copy of a network in evaluation mode, and makes it anew when a parameter or a buffer has changed. The
    copy is neither saved nor copied with what holds it.
    """

    def __init__(self) -> None:
        self._made: tuple[tuple, nn.Module] | None = None

    def __reduce__(self) -> tuple[type["FoldedNorms"], tuple]:
        return FoldedNorms, ()

    def of(self, network: nn.Module, run: Callable[[Any], Tensor]) -> Any:
        """
        Returns the folded copy, or the network itself where nothing can be folded or it is traced for export.

        Args:
            network: in evaluation mode.
            run: gives some output of a network, for a check that the copy computes the same.
        """
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return network
        tensors = (*network.parameters(), *network.buffers())
        state = tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors)
        if self._made is None or self._made[0] != state:
            self._made = state, _folded(network, run)
        return self._made[1]


@torch.no_grad()
def _folded(network: nn.Module, run: Callable[[Any], Tensor]) -> nn.Module:
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return network
    folded = copy.deepcopy(network)
    _fold(folded)
    expected, found = run(network).float(), run(folded).float()
    if expected.is_meta:  # nothing is computed, so that nothing can be compared
        return network
    close = _CLOSE if next(network.parameters()).dtype == torch.float32 else 100 * _CLOSE
    is_same = bool((expected - found).abs().max() <= close * expected.abs().max())
    return folded if is_same else network  # the norms of some networks do not follow the convolution ahead of them


def _fold(module: nn.Module) -> None:
    """Folds each batch norm into the convolution that is defined just ahead of it; what else the norm does stays."""
    ahead_name, ahead = "", None
    for name, part in list(module.named_children()):
        if isinstance(ahead, nn.Conv2d) and isinstance(part, nn.BatchNorm2d) and part.running_var is not None:
            if part.num_features == ahead.out_channels:
                convolution = fuse_conv_bn_eval(ahead, part)
                setattr(module, ahead_name, convolution.to(memory_format=torch.channels_last))
                # timm's norms drop parts out, which is nothing here, and apply an activation.
                setattr(module, name, getattr(part, "act", nn.Identity()))
        else:
            _fold(part)
        ahead_name, ahead = name, part

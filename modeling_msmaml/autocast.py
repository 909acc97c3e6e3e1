"""Automatic mixed precision on any device, also on those that have none, as the meta device."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def autocast_of(device: str) -> tuple[bool, torch.dtype | None]:
    """Whether autocast is on for this kind of device, and its dtype."""
    if not torch.amp.is_autocast_available(device):
        return False, None
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def autocast(device: str, enabled: bool, dtype: torch.dtype | None = None) -> AbstractContextManager:
    """`torch.autocast`; nothing on a kind of device without it."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext()
    return torch.autocast(device, dtype=dtype, enabled=enabled)


def in_autocast(tensor: Tensor) -> Tensor:
    """The same in the dtype of autocast, where that is on; float64 stays."""
    enabled, dtype = autocast_of(tensor.device.type)
    return tensor.to(dtype) if enabled and tensor.dtype != torch.float64 else tensor

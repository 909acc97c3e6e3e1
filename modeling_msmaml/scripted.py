"""Functions of tensors that run without Python's global lock, so that threads do not wait for each other."""

import functools
import warnings
from collections.abc import Callable

import torch


def scripted(function: Callable) -> Callable:
    """
    `function`, compiled by TorchScript where this version of PyTorch has it, and as it is elsewhere.

    Python releases its global lock in every operation on tensors and takes it again after it. With a thread a task,
    each waits for the other at each of the several thousand short operations of a meta-step; compiled, a whole function
    is one. Nothing is optimised or fused, so that the values are the same to the last bit.
    """
    if not hasattr(torch.jit, "script"):
        return function
    with warnings.catch_warnings():
        # TorchScript is deprecated as a way to export models. Its successors need a compiler at run time, and minutes.
        warnings.filterwarnings("ignore", message=".*torch.jit.script.*deprecated.*")
        compiled = torch.jit.script(function)

    @functools.wraps(function)
    def call(*arguments):
        # Else the first calls would be profiled, and compiled again for each new shape.
        with torch.jit.optimized_execution(False):
            return compiled(*arguments)

    return call

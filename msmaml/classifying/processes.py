"""The processes of a run that `accelerate launch` or `torchrun` started, which share its queries."""

from __future__ import annotations

import os
from datetime import timedelta

import torch


class Processes:
    """
    This process and the others.

    Attributes:
        number: of this process, from 0 on.
        count: of all.
    """

    def __init__(self) -> None:
        self.number = int(os.environ.get("RANK", "0"))
        self.count = int(os.environ.get("WORLD_SIZE", "1"))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that speaks for all."""
        return self.number == 0

    def device(self) -> str:
        """The accelerator that is this process's own, or the CPU."""
        if not torch.cuda.is_available():
            return "cpu"
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"

    def wait(self) -> None:
        """Waits until all processes are here."""
        if self.count == 1:
            return
        if not torch.distributed.is_initialized():
            # gloo, since nothing but the waiting is shared; a share may take days longer than another.
            torch.distributed.init_process_group("gloo", timeout=timedelta(days=30))
        torch.distributed.barrier()

    def part(self) -> None:
        """Ends the connection to the others."""
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

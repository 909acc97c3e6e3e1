"""
Whether the processes that a launcher has started train one model together.

torchrun, `accelerate launch` and `mpirun` tell each process by environment variables how many of them there are.
Without a GPU, `TrainingArguments` heeds them only with `use_cpu`: otherwise each process would be a run of its own, and
all of them would write into one `output_dir`. And where there is a GPU, it would take it although the configuration of
accelerate says `use_cpu`.
"""

import logging
import os

import torch
from accelerate.utils import is_torch_xla_available

from .hardware_limits import is_true

logger = logging.getLogger(__name__)

# The number of processes, and that of this machine: torchrun and accelerate, Intel MPI and MPICH, Open MPI, MVAPICH.
# accelerate takes the first that is set. And which of all processes this one is.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE")
_RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def trains_on_cpu() -> bool:
    """
    Whether accelerate's configuration says `use_cpu`, or a launcher started several processes where there is no
    accelerator by which they could communicate. In the second case the environment then says where the main process is,
    which `mpirun` does not, if all of them are on this machine.
    """
    if is_true("ACCELERATE_USE_CPU"):
        return True
    launched, rank = _first_set(_SIZES)[1], _first_set(_RANKS, -1)[1]
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    # Apple's GPUs cannot: each process would train alone.
    has_accelerator = (accelerator is not None and accelerator.type != "mps") or is_torch_xla_available()
    if launched < 2 or rank < 0 or has_accelerator:
        return False
    if _first_set(_LOCAL_SIZES)[1] == launched:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    if rank == 0:
        logger.warning("there is no GPU: %d processes train on the CPU; --use_cpu true says so beforehand", launched)
    return True


def check_world_size(world_size: int) -> None:
    """
    Args:
        world_size: number of processes that train together, as the training arguments have it.

    Raises:
        `ValueError`: the launcher started another number, so that several runs would write into one folder.
    """
    variable, launched = _first_set(_SIZES)
    if launched == world_size or is_torch_xla_available():  # on TPUs it may be the number of machines
        return
    raise ValueError(
        f"{variable}={launched}: the launcher started {launched} processes, but {world_size} would train together, so "
        f"that several runs would write into one output_dir. With one GPU per process, start them with accelerate "
        f"launch --config_file accelerate_configs/multi_gpu.yaml --num_processes {launched}, or with torchrun; on the "
        f"CPU, give --use_cpu true. For a run of a single process, unset {variable}"
    )


def _first_set(variables: tuple[str, ...], default: int = 1) -> tuple[str, int]:
    """The first of some variables that holds a number, and that number; the default if none does."""
    for variable in variables:
        if (value := os.environ.get(variable, "")).isdigit():
            return variable, int(value)
    return variables[0], default

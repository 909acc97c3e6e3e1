"""What cannot work with an inner loop, refused before anything is computed."""

import json
import os
from pathlib import Path

import torch
from accelerate.utils import is_torch_xla_available
from torch import nn
from transformers import TrainingArguments

FP16_WARNING = (
    "fp16 with second-order gradients: products of many small derivatives fall below the smallest fp16 number (6e-8) "
    "and vanish, which loss scaling cannot undo inside the inner loop; take bf16, which has the range of float32, or "
    "first_order=True"
)


def refuse_deepspeed_zero3(deepspeed: dict | str | None) -> None:
    """
    Args:
        deepspeed: the argument of that name: a configuration, or the path of one.

    Raises:
        `ValueError`: it, or accelerate's configuration in the environment, asks for ZeRO stage 3.
    """
    settings = [deepspeed]
    if is_true("ACCELERATE_USE_DEEPSPEED"):
        settings.append(os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE"))
        settings.append({"zero_optimization": {"stage": os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")}})
    for setting in settings:
        if isinstance(setting, str) and setting not in ("", "none"):
            path = Path(setting)
            setting = json.loads(path.read_text() if path.is_file() else setting)
        if isinstance(setting, dict) and str(setting.get("zero_optimization", {}).get("stage")) == "3":
            raise ValueError(
                "DeepSpeed ZeRO stage 3 keeps only this process's part of every parameter, but the inner loop "
                "differentiates with respect to whole parameters; take accelerate_configs/multi_gpu.yaml "
                "(DistributedDataParallel), which the size of these models allows"
            )


def refuse_what_cannot_work(args: TrainingArguments, first_order: bool) -> None:
    """
    Raises:
        `ValueError`: FSDP or torch_compile with second-order gradients, or several GPUs in one process.
    """
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs in one process: DataParallel splits the tasks of each modality, and there may be fewer "
            "of them than GPUs; start one process per GPU with accelerate launch --config_file "
            "accelerate_configs/multi_gpu.yaml, or show one GPU with CUDA_VISIBLE_DEVICES=0"
        )
    if first_order:
        return
    if args.fsdp or is_true("ACCELERATE_USE_FSDP"):
        raise ValueError(
            "FSDP with second-order gradients: the outer gradient goes back through parameters that FSDP has split and "
            "freed by then; take accelerate_configs/multi_gpu.yaml (DistributedDataParallel), or first_order=True"
        )
    if args.torch_compile or os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() != "no":
        raise ValueError(
            "torch_compile with second-order gradients: a compiled graph cannot be differentiated twice "
            "(create_graph=True); leave torch_compile out, or take first_order=True"
        )


def refuse_bf16_without_gpu(args: TrainingArguments) -> None:
    """
    Raises:
        `ValueError`: bf16 on a machine without a GPU, unless `use_cpu` says that the CPU is meant.
    """
    if args.bf16 and not args.use_cpu and not torch.accelerator.is_available() and not is_torch_xla_available():
        raise ValueError(
            "bf16=True, but there is no GPU: leave it out, as float32 is as fast on most CPUs, or give use_cpu=True"
        )


def refuse_missing_bf16(args: TrainingArguments) -> None:
    """
    Raises:
        `ValueError`: bf16 on a device that cannot compute with it.
    """
    if mixed_precision(args) != "bf16":
        return
    try:
        weight = torch.ones(4, 4, 3, device=args.device, requires_grad=True)
        with torch.autocast(args.device.type, dtype=torch.bfloat16):
            product = nn.functional.conv1d(torch.ones(1, 4, 8, device=args.device), weight) @ weight.new_ones(6, 2)
        (gradient,) = torch.autograd.grad(product.float().square().sum(), weight, create_graph=True)
        gradient.sum().backward()
    except RuntimeError as error:
        raise ValueError(
            f"bf16 does not work on this device, {args.device} ({error}): leave out bf16=True, or take a configuration "
            'of accelerate with mixed_precision: "no", such as accelerate_configs/cpu.yaml'
        ) from error


def warn_of_fp16(args: TrainingArguments, first_order: bool) -> str | None:
    """The warning about fp16 where it is asked for with second-order gradients; `None` otherwise."""
    return FP16_WARNING if mixed_precision(args) == "fp16" and not first_order else None


def mixed_precision(args: TrainingArguments) -> str:
    """`"no"`, `"bf16"` or `"fp16"`, as the arguments say, or else accelerate's configuration."""
    if args.fp16 or args.bf16:
        return "fp16" if args.fp16 else "bf16"
    return os.environ.get("ACCELERATE_MIXED_PRECISION", "no")


def is_true(variable: str) -> bool:
    """Whether an environment variable says yes, as accelerate's do."""
    return os.environ.get(variable, "false").lower() in ("1", "true", "yes")

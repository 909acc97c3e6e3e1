"""What it takes to repeat a run, for its model card: the command line and the commit of the code."""

import os
import shlex
import subprocess
from pathlib import Path

SECRETS = ("--hub_token", "--hub-token", "--push_to_hub_token")


def command_line(argv: list[str], world_size: int = 1, device_type: str = "cuda") -> str:
    """
    Args:
        argv: what followed `run_meta.py`; the value of a secret is replaced by `TOKEN`.
        world_size: number of processes. Several are started by torchrun, which works whatever accelerate's own
            configuration on another machine is.
        device_type: `"cpu"` or an accelerator.
    """
    launcher = ["python"]
    if world_size > 1:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
        launcher = ["ACCELERATE_USE_CPU=true"] if device_type == "cpu" else []
        launcher += ["torchrun", "--nproc_per_node", str(local)]
        launcher += ["--nnodes", str(world_size // local)] if local < world_size else []
    return shlex.join([*launcher, "run_meta.py", *without_secrets(argv)])


def without_secrets(argv: list[str]) -> list[str]:
    """`--hub_token hf_x` -> `--hub_token TOKEN`, also when it is written with `=`."""
    shown = []
    for i, argument in enumerate(argv):
        name, equals, _ = argument.partition("=")
        if equals and name in SECRETS:
            shown.append(f"{name}=TOKEN")
        else:
            shown.append("TOKEN" if i and argv[i - 1] in SECRETS else argument)
    return shown


def commit() -> str | None:
    """The git commit that this package is at, with `+` when files differ from it; `None` outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return described.stdout.strip() or None

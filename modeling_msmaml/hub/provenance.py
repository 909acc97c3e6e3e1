"""What it takes to repeat a run, for its model card: the command line and the commit of the code."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

SECRETS = ("--hub_token", "--hub-token", "--push_to_hub_token")
_ABSOLUTE_PATH = re.compile(r"""(?<![\w.:/~-])/[^\s"'\\,:{}\[\]]+""")


def command_line(argv: list[str], world_size: int = 1, device_type: str = "cuda") -> str:
    """
    The command that this process runs, for people on other machines.

    Args:
        argv: what followed `run_meta.py` or `msmaml train`; the value of a secret is replaced by `TOKEN`, and folders
            that only this machine has by their last part.
        world_size: number of processes. Several are started by torchrun, which works whatever accelerate's own
            configuration on another machine is.
        device_type: `"cpu"` or an accelerator.
    """
    started = Path(sys.argv[0])
    is_installed = started.stem == "msmaml" or started.parts[-2:] == ("msmaml", "__main__.py")
    program = ["msmaml", "train"] if is_installed else ["run_meta.py"]
    launcher = [] if is_installed else ["python"]
    if world_size > 1:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
        launcher = ["ACCELERATE_USE_CPU=true"] if device_type == "cpu" else []
        launcher += ["torchrun", "--nproc_per_node", str(local)]
        launcher += ["--nnodes", str(world_size // local)] if local < world_size else []
        launcher += ["-m"] if is_installed else []
    return shlex.join([*launcher, *program, *map(without_folders, without_secrets(argv))])


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


def without_folders(text: str) -> str:
    """`/home/me/data` -> `data`; a path in the working directory becomes relative to it."""
    here = Path.cwd()

    def shown(match: re.Match) -> str:
        path = Path(match[0])
        return str(path.relative_to(here) if path.is_relative_to(here) else path.name)

    return _ABSOLUTE_PATH.sub(shown, text)


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

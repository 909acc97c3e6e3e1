"""Every configuration of accelerate that is shipped, and every launcher, starts processes that train together."""

import json
import os
import subprocess
import sys

import pytest
import torch

from modeling_msmaml.training.launchers import trains_on_cpu

from .test_distributed import CONFIGS, REPOSITORY, free_port
from .test_trainer import arguments

ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
OPEN_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")


def accelerate(config: str, *options: str) -> list[str]:
    return [*ACCELERATE, str(CONFIGS / f"{config}.yaml"), *options]


def nodes(port: str) -> list[list[str]]:
    """Two machines that are both this one."""
    options = ("--num_processes", "2", "--main_process_port", port)
    return [accelerate("multi_node", *options, "--machine_rank", str(rank)) for rank in range(2)]


# Name of the launcher -> the commands that start a run with it, given a free port, and how many processes they start.
LAUNCHERS = {
    "cpu": (lambda port: [accelerate("cpu")], 1),
    "single_gpu": (lambda port: [accelerate("single_gpu")], 1),
    "multi_cpu": (lambda port: [accelerate("multi_cpu", "--main_process_port", port)], 2),
    "multi_gpu": (lambda port: [accelerate("multi_gpu", "--main_process_port", port)], 2),
    "multi_node": (nodes, 2),
    "torchrun": (
        lambda port: [[sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]],
        2,
    ),
    "mpirun": (lambda port: [[sys.executable], [sys.executable]], 2),
}


def environment(launcher: str, number: int, port: str) -> dict[str, str]:
    """The environment of a command, in which there is no GPU; `mpirun` is only known by what it sets."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if launcher == "mpirun":
        env |= {name: str(number) for name in OPEN_MPI}
        env |= {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "MASTER_PORT": port}
    return env


def test_every_configuration_is_launched():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == LAUNCHERS.keys() - {"torchrun", "mpirun"}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_processes_of_a_launcher_train_together_without_a_gpu(tmp_path, launcher):
    port = free_port()
    commands, processes = LAUNCHERS[launcher][0](port), LAUNCHERS[launcher][1]
    started = [
        subprocess.Popen(
            [*command, "-m", "tests.training.launched", str(tmp_path)],
            cwd=REPOSITORY,
            env=environment(launcher, number, port),
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, command in enumerate(commands)
    ]
    try:
        errors = [process.communicate(timeout=100)[1][-3000:] for process in reversed(started)]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * len(commands), errors
    said = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert said.keys() == {str(rank) for rank in range(processes)}
    for told in said.values():
        assert told == {
            "world_size": processes,
            "device": "cpu",
            "tasks": 6 * processes,
            "met": list(range(processes)),
        }


def pretend_to_have(monkeypatch, accelerator: str) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(accelerator))


@pytest.mark.parametrize(
    ("environment", "accelerator"),
    [
        ({"WORLD_SIZE": "2"}, None),  # left behind in a shell: nothing says which of two this process is
        ({"WORLD_SIZE": "2", "RANK": "0"}, "cuda"),  # as Kubernetes sets it, without LOCAL_RANK
        ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1"}, "cuda"),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "xpu"),
        ({"MV2_COMM_WORLD_SIZE": "2", "MV2_COMM_WORLD_RANK": "0"}, "cuda"),
    ],
)
def test_processes_that_would_train_apart_are_refused(tmp_path, monkeypatch, environment, accelerator):
    variable, size = next(iter(environment.items()))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if accelerator is not None:
        pretend_to_have(monkeypatch, accelerator)
    with pytest.raises(ValueError, match=rf"{variable}={size}: .*into one output_dir.* accelerate launch .*use_cpu"):
        arguments(tmp_path / "run", use_cpu=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variable", ["true", "True", "1"])
def test_a_configuration_for_the_cpu_holds_where_there_is_a_gpu(tmp_path, monkeypatch, variable):
    """`cpu.yaml`, as accelerate hands it on: one process, which would take the GPU."""
    pretend_to_have(monkeypatch, "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", variable)
    args = arguments(tmp_path, use_cpu=False)
    assert (args.use_cpu, args.device.type, args.n_gpu) == (True, "cpu", 0)


@pytest.mark.parametrize("launcher", ["RANK", "PMI_RANK"])
def test_several_processes_on_the_cpu_need_no_option_where_there_is_a_gpu(monkeypatch, launcher):
    """`multi_cpu.yaml`, with each launcher that starts it."""
    monkeypatch.setenv(launcher.replace("RANK", "SIZE") if "_" in launcher else "WORLD_SIZE", "2")
    monkeypatch.setenv(launcher, "1")
    pretend_to_have(monkeypatch, "cuda")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "False")
    assert not trains_on_cpu()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert trains_on_cpu()

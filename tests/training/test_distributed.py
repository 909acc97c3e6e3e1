"""Two gloo processes against one; what accelerate's configurations hold; what cannot work is refused."""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from accelerate.utils import gather_object
from safetensors.torch import load_file, save_file

from data_builders import EpisodeDataset, FewShotSplit, add_new_classes
from modeling_msmaml import MetaTrainer

from ..model.test_default_architecture import raw, small_model
from ..toys import tiny_dataset, tiny_model
from .test_trainer import arguments, make_trainer, parameters

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "accelerate_configs"
WORLD_SIZE = 2
# SGD: Adam amplifies rounding on parameters whose true gradient is zero.
OPTIONS = {"max_steps": 5, "optim": "sgd", "learning_rate": 0.1, "log_inner_loop": True, "log_tasks": "all"}
# Tasks that each of the two processes has, and what that makes of audio, text, image, audio, text, image, ...:
# three: every process meets every modality; two: one always lacks one; one: each has a single one.
TASKS = [3, 2, 1]
EPISODES = 11


def train_each(folder: Path, processes: int, tasks: list[int]) -> None:
    """Trains and evaluates with each number of tasks in a process; the main process writes down how it ended."""
    for number in tasks:
        size = number * (WORLD_SIZE // processes)
        trainer = make_trainer(folder / f"run{number}", per_device_train_batch_size=size, **OPTIONS)
        # `make_trainer` counts one process only.
        trainer.train_dataset = tiny_dataset(trainer.args.max_steps * trainer.args.tasks_per_step, seed=1)
        untrained = trainer.evaluate(tiny_dataset(EPISODES, seed=2))
        met = set(next(iter(trainer.get_train_dataloader()))["episodes"])
        trainer.train()
        evaluated = trainer.evaluate(tiny_dataset(EPISODES, seed=2))
        modalities = gather_object([sorted(met)])
        if trainer.is_world_process_zero():
            save_file(parameters(trainer), folder / f"{number}.safetensors")
            report = {
                "world_size": trainer.args.world_size,
                "device": trainer.args.device.type,
                "modalities": modalities,
                "untrained": without_clock(untrained),
                "trained": without_clock(evaluated),
                "log": [entry for entry in trainer.state.log_history if "loss" in entry],
            }
            (folder / f"{number}.json").write_text(json.dumps(report))


def default_trainer(folder: Path, processes: int) -> MetaTrainer:
    """
    Of the default architecture: fitted front ends, descriptors, prototypes, FiLM, trained rates and curvature; and of
    what goes with it in training: dropout, changed samples, new and mixed classes.
    """
    splits = [
        FewShotSplit.from_arrays(
            raw(modality, (48,), torch.Generator().manual_seed(3)).numpy(),
            [c for c in range(6) for _ in range(8)],
            None,
            modality,
        )
        for modality in ("audio", "text", "image")
    ]
    tasks = 3 * (WORLD_SIZE // processes)
    options = {**OPTIONS, "log_inner_loop": False, "per_device_train_batch_size": tasks}
    args = arguments(folder / "default", n_query=2, **options)
    shape = (args.n_way, args.k_shot, args.n_query)
    number = args.max_steps * args.tasks_per_step
    new = add_new_classes(splits, ["rotate", "reverse"])
    return MetaTrainer(
        model=small_model(torch.float32, dropout=0.2, inner_optimizer="meta_curvature"),
        args=args,
        train_dataset=EpisodeDataset(new, *shape, number, 1, augment=["basic", "spec_augment"], mix_classes=0.3),
        eval_dataset=EpisodeDataset(splits, *shape, EPISODES, 2),
    )


def train_default(folder: Path, processes: int) -> None:
    """Trains and evaluates it; the main process writes down how it ended."""
    trainer = default_trainer(folder, processes)
    untrained = trainer.evaluate()
    trainer.train()
    evaluated = trainer.evaluate()
    if trainer.is_world_process_zero():
        save_file(parameters(trainer), folder / "default.safetensors")
        report = {
            "world_size": trainer.args.world_size,
            "untrained": without_clock(untrained),
            "trained": without_clock(evaluated),
            "log": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        }
        (folder / "default.json").write_text(json.dumps(report))


def without_clock(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.endswith(("runtime", "per_second"))}


def resume(folder: Path) -> None:
    """Trains three meta-steps of five, then goes on from the checkpoint."""
    saving = {**OPTIONS, "save_strategy": "steps", "save_steps": 3, "logging_steps": 2}
    for name, last in (("straight", None), ("stopped", None), ("stopped", folder / "stopped" / "checkpoint-3")):
        trainer = make_trainer(folder / name, per_device_train_batch_size=3, **saving)
        trainer.train_dataset = tiny_dataset(30, seed=1)
        trainer.train(resume_from_checkpoint=last)
    for name in ("straight", "stopped"):
        for rank in range(WORLD_SIZE):
            assert (folder / name / "checkpoint-3" / f"training_record_{rank}.json").is_file()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train_each(Path(sys.argv[1]), WORLD_SIZE, TASKS)
    resume(Path(sys.argv[1]))
    train_default(Path(sys.argv[1]), WORLD_SIZE)


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """What two processes on the CPU, started by accelerate, have left."""
    folder = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    command = [*launch, "--config_file", str(CONFIGS / "multi_cpu.yaml"), "--main_process_port", free_port()]
    done = subprocess.run(
        [*command, "-m", "tests.training.test_distributed", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """The same from one process, with the same global meta-batches."""
    folder = tmp_path_factory.mktemp("one")
    train_each(folder, 1, TASKS)
    train_default(folder, 1)
    return folder


def reports(one: Path, two: Path, tasks: int | str) -> tuple[dict, dict]:
    return tuple(json.loads((folder / f"{tasks}.json").read_text()) for folder in (one, two))


@pytest.mark.parametrize("tasks", TASKS)
def test_two_processes_train_like_one(one, two, tasks, record_property):
    single, double = reports(one, two, tasks)
    assert (single["world_size"], double["world_size"]) == (1, WORLD_SIZE)
    assert double["device"] == "cpu"
    everything = {"audio", "text", "image"}
    lacking = [everything - set(modalities) for modalities in double["modalities"]]
    assert all(lacking) if tasks < 3 else not any(lacking)
    expected, actual = (load_file(folder / f"{tasks}.safetensors") for folder in (one, two))
    assert expected.keys() == actual.keys()
    difference = max((actual[name] - expected[name]).abs().max().item() for name in expected)
    start = tiny_model(torch.float32).state_dict()
    moved = max((expected[name] - start[name]).abs().max().item() for name in expected)
    record_property("largest parameter difference", difference)
    print(f"{tasks} tasks a process: largest parameter difference {difference:.1e}, after a movement of {moved:.1e}")
    assert difference < 1e-5 < 1e-2 < moved


@pytest.mark.parametrize("tasks", TASKS)
def test_log_entries_are_means_over_all_processes(one, two, tasks):
    single, double = (report["log"] for report in reports(one, two, tasks))
    assert len(single) == OPTIONS["max_steps"]
    for ours, theirs in zip(double, single, strict=True):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("tasks", TASKS)
def test_two_processes_evaluate_like_one(one, two, tasks):
    """The same model to the last bit; models that were trained in either way up to their rounding."""
    single, double = reports(one, two, tasks)
    assert double["untrained"]["eval_episodes"] == EPISODES
    assert double["untrained"] == single["untrained"]
    for name in single["trained"]:
        assert double["trained"][name] == pytest.approx(single["trained"][name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("tasks", TASKS)
def test_two_processes_log_the_tasks_of_one(one, two, tasks):
    ours, theirs = (
        pd.read_parquet(folder / f"run{tasks}" / "task_log").sort_values(
            ["phase", "step", "episode"], ignore_index=True
        )
        for folder in (two, one)
    )
    assert theirs.groupby("phase").size().to_dict() == {"eval": 2 * EPISODES, "train": OPTIONS["max_steps"] * 2 * tasks}
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-3, atol=1e-4)
    names = {path.stem.rpartition("-step")[2][9:] for path in (two / f"run{tasks}" / "task_log").iterdir()}
    assert names == {"00000-of-00002", "00001-of-00002"}


def test_two_processes_train_the_default_architecture_like_one(one, two):
    """Masks and mixtures are functions of the tasks, not of the process that has them."""
    single, double = reports(one, two, "default")
    assert (single["world_size"], double["world_size"]) == (1, WORLD_SIZE)
    assert double["untrained"] == single["untrained"] and double["untrained"]["eval_episodes"] == EPISODES
    assert double["log"] == pytest.approx(single["log"], rel=1e-3, abs=1e-4) and len(single["log"]) == 5
    for name in single["trained"]:
        assert double["trained"][name] == pytest.approx(single["trained"][name], rel=1e-3, abs=1e-5), name
    expected, actual = (load_file(folder / "default.safetensors") for folder in (one, two))
    start = dict(default_trainer(one, 1).model.named_parameters())
    assert expected.keys() == actual.keys() == start.keys()
    difference = max((actual[name] - expected[name]).abs().max().item() for name in expected)
    moved = {name: (expected[name] - start[name]).abs().max().item() for name in expected}
    print(f"largest parameter difference {difference:.1e}, after a movement of {max(moved.values()):.1e}")
    assert difference < 1e-4 < 1e-2 < max(moved.values())
    rates = [name for name in moved if name.startswith("inner_rates.")]
    assert rates and all(moved[name] for name in rates)


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_evaluation_does_not_depend_on_the_number_of_processes(tmp_path, world_size, monkeypatch):
    """The processes' shares are whole batches of what one process evaluates: to the last bit."""
    trainer = make_trainer(tmp_path, per_device_eval_batch_size=4)
    dataset = tiny_dataset(EPISODES)
    batches = [batch["episodes"] for batch in trainer.get_test_dataloader(dataset)]
    shares = []
    for rank in range(world_size):
        args = type(trainer.args)
        monkeypatch.setattr(args, "process_index", property(lambda self, rank=rank: rank))
        monkeypatch.setattr(args, "world_size", property(lambda self: world_size))
        shares += [batch["episodes"] for batch in trainer.get_test_dataloader(dataset)]
    assert len(shares) == len(batches) == 3
    for ours, theirs in zip(shares, batches, strict=True):
        assert ours.keys() == theirs.keys()
        for modality in theirs:
            assert all(torch.equal(ours[modality][key], theirs[modality][key]) for key in theirs[modality])


def test_two_processes_resume_to_the_last_bit(two):
    states = [two / name / "checkpoint-5" for name in ("straight", "stopped")]
    expected, actual = (load_file(state / "model.safetensors") for state in states)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    expected, actual = (json.loads((state / "trainer_state.json").read_text())["log_history"] for state in states)
    assert actual == expected
    expected, actual = (
        pd.read_parquet(two / name / "task_log").sort_values("episode", ignore_index=True)
        for name in ("straight", "stopped")
    )
    assert actual.step.tolist() == [step for step in range(1, 6) for _ in range(6)]
    pd.testing.assert_frame_equal(actual, expected, check_exact=True)


def test_every_set_up_has_its_configuration():
    configs = {path.stem: yaml.safe_load(path.read_text()) for path in CONFIGS.glob("*.yaml")}
    assert configs.keys() == {"cpu", "multi_cpu", "single_gpu", "multi_gpu", "multi_node"}
    described = (REPOSITORY / "docs" / "training.md").read_text()
    for name, config in configs.items():
        on_cpu = name in ("cpu", "multi_cpu")
        assert config.get("use_cpu", False) == on_cpu
        assert config["mixed_precision"] == ("no" if on_cpu else "bf16")
        assert config["distributed_type"] == ("NO" if name in ("cpu", "single_gpu") else "MULTI_GPU")
        assert f"`{name}.yaml`" in described


@pytest.mark.parametrize(
    ("changes", "environment", "message"),
    [
        ({"deepspeed": {"zero_optimization": {"stage": 3}}}, {}, "DeepSpeed ZeRO stage 3 .*whole parameters"),
        (
            {},
            {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
            "DeepSpeed ZeRO stage 3",
        ),
        ({"fsdp": True}, {}, "FSDP with second-order gradients"),
        ({}, {"ACCELERATE_USE_FSDP": "true"}, "FSDP with second-order gradients"),
        ({"torch_compile": True}, {}, "torch_compile with second-order gradients: .*create_graph"),
        ({}, {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "torch_compile with second-order gradients"),
        ({"accelerator_config": {"split_batches": True}}, {}, "accelerator_config.split_batches=True"),
        ({"accelerator_config": {"dispatch_batches": True}}, {}, "accelerator_config.dispatch_batches=True"),
        ({"accelerator_config": {"even_batches": False}}, {}, "accelerator_config.even_batches=False"),
    ],
)
def test_what_cannot_work_is_refused_at_start(tmp_path, monkeypatch, changes, environment, message):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        MetaTrainer(tiny_model(torch.float32), arguments(tmp_path, **changes))


def test_deepspeed_configuration_in_a_file_is_read(tmp_path):
    path = tmp_path / "zero3.json"
    path.write_text('{"zero_optimization": {"stage": 3}}')
    with pytest.raises(ValueError, match="DeepSpeed ZeRO stage 3"):
        arguments(tmp_path, deepspeed=str(path))


def test_several_gpus_in_one_process_are_refused(tmp_path, monkeypatch):
    args = arguments(tmp_path)
    monkeypatch.setattr(type(args), "n_gpu", property(lambda self: 2))
    with pytest.raises(ValueError, match="2 GPUs in one process: .*accelerate launch"):
        MetaTrainer(tiny_model(torch.float32), args)


@pytest.mark.parametrize("first_order", [False, True])
def test_fp16_warns_of_second_order_gradients(tmp_path, monkeypatch, caplog, first_order):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    # Without a GPU accelerate refuses fp16 itself, after the warning.
    with caplog.at_level(logging.WARNING), contextlib.suppress(ValueError):
        MetaTrainer(tiny_model(torch.float32), arguments(tmp_path, first_order=first_order))
    assert ("fp16 with second-order gradients: products of many small derivatives" in caplog.text) != first_order

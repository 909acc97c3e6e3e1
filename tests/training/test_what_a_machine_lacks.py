"""Space on the disk and bf16: who lacks them is told so."""

import errno
import os
from pathlib import Path

import pytest
import torch
import transformers
import yaml
from safetensors import SafetensorError

from modeling_msmaml import MetaTrainer
from modeling_msmaml.training import hardware_limits
from modeling_msmaml.training.checkpoints import last_complete
from msmaml.commands import train

from ..toys import tiny_model
from .test_trainer import arguments, make_trainer

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FULL = "/dev/full"  # a file on which writing fails as on a full disk
torch_save = torch.save


def full_disk(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_disk_of_safetensors(*arguments, **options):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    ("owner", "name", "writes"),
    [
        (torch, "save", lambda content, path, *rest, **options: torch_save(content, FULL)),
        (transformers.TrainerState, "save_to_json", full_disk),
        (transformers.PreTrainedModel, "save_pretrained", full_disk_of_safetensors),
    ],
)
@pytest.mark.skipif(not Path(FULL).exists(), reason=f"there is no {FULL}")
def test_a_full_disk_is_said_and_leaves_the_last_checkpoint(tmp_path, monkeypatch, owner, name, writes):
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=2)
    trainer.train()
    monkeypatch.setattr(owner, name, writes)
    trainer = make_trainer(tmp_path, save_strategy="steps", save_steps=1, max_steps=5)
    message = rf"no space was left in {tmp_path} for checkpoint-5 .*resume_from_checkpoint=last; save_total_limit"
    with pytest.raises(OSError, match=message) as raised:
        trainer.train(resume_from_checkpoint="last")
    assert raised.value.errno == errno.ENOSPC
    assert last_complete(tmp_path) == tmp_path / "checkpoint-4"


def test_a_command_says_that_a_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "run", full_disk)
    with pytest.raises(SystemExit, match=r"train: a disk is full .*output_dir=.*run and cache_dir=.*built"):
        train.main(["quickstart", "--output_dir", str(tmp_path / "run"), "--cache_dir", str(tmp_path / "built")])


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    def other(*arguments, **options):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(torch, "save", other)
    with pytest.raises(PermissionError):
        make_trainer(tmp_path, save_strategy="steps", save_steps=1).train()


def test_bf16_without_a_gpu_must_be_meant(tmp_path):
    with pytest.raises(ValueError, match="bf16=True, but there is no GPU: .*use_cpu=True"):
        arguments(tmp_path, bf16=True, use_cpu=False)
    assert arguments(tmp_path, bf16=True, use_cpu=True).bf16


@pytest.mark.parametrize("given", ["argument", "launcher"])
def test_bf16_that_a_device_lacks_is_refused(tmp_path, monkeypatch, given):
    def lacking(*tensors):
        raise RuntimeError("the bf16 path needs the cpu support avx512bw, avx512vl and avx512dq")

    if given == "launcher":
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    args = arguments(tmp_path, bf16=given == "argument")
    MetaTrainer(tiny_model(torch.float32), args)
    monkeypatch.setattr(hardware_limits.nn.functional, "conv1d", lacking)
    with pytest.raises(ValueError, match=r"bf16 does not work on this device, cpu \(.*avx512bw.*leave out bf16=True"):
        MetaTrainer(tiny_model(torch.float32), args)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"eval_strategy": "steps"}, True),
        ({"eval_strategy": "no"}, False),
        ({"eval_strategy": "no", "do_eval": True}, True),
        ({"eval_strategy": "steps", "do_eval": False}, False),  # nothing is trained, so that it has no other effect
    ],
)
def test_what_is_asked_of_the_evaluation_after_training_holds(tmp_path, given, found):
    assert arguments(tmp_path, **given).do_eval is found


def test_no_evaluation_beside_a_strategy_is_refused(tmp_path):
    with pytest.raises(ValueError, match="do_eval=False, but eval_strategy='steps' .*give eval_strategy='no'"):
        arguments(tmp_path, do_train=True, do_eval=False, eval_strategy="steps", eval_steps=1)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_long_run_that_is_killed_can_go_on(path):
    """Those with 200 meta-steps of a network from scratch take longer than one waits for a second time."""
    config = yaml.safe_load(path.read_text())
    takes_minutes = path.stem == "quickstart" or config.get("task_network") == "levels"
    if not takes_minutes:
        assert config["save_strategy"] == "steps" and config["max_steps"] >= 4 * config["save_steps"]
        assert config["save_total_limit"] >= 1

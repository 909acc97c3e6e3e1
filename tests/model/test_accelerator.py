"""
What an accelerator is given, on PyTorch's meta device: the code of one runs on shapes alone there, and no value can be
given to the host, which is where a real one would make the host wait.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_msmaml import MetaTrainer, MetaTrainingArguments

from ..toys import tiny_dataset, tiny_episodes, tiny_model
from . import test_default_architecture as default


def on_meta(episodes):
    return {
        name: {part: value.to("meta") if torch.is_tensor(value) else value for part, value in batch.items()}
        for name, batch in episodes.items()
    }


def run(model, episodes) -> None:
    """A meta-step in training, and an evaluation."""
    model.train().zero_grad()
    model(episodes).loss.backward()
    with torch.no_grad():
        model.eval()(episodes)


@pytest.mark.parametrize("name", default.VARIANTS)
def test_default_architecture_never_waits_for_the_device(name):
    model = default.small_model(torch.float32, **default.VARIANTS[name])
    batch = default.episodes()
    for modality in model.auxiliary:
        batch[modality] |= {"class_ids": default.episodes([modality], class_ids=True)[modality]["class_ids"]}
    if model.config.head == "prototype":
        for part in batch.values():
            part["n_way"] = default.N_WAY  # as the trainer's collator gives it
    run(model.to("meta"), on_meta(batch))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"first_order": True},
        {"norm_statistics": "support", "inner_grad_clip": None},
        {"inner_loop_checkpointing": True},
        {"conditioning": "none", "train_word_vectors": True},
    ],
    ids=str,
)
def test_reference_architecture_never_waits_for_the_device(changes):
    run(tiny_model(torch.float32, **changes).to("meta"), on_meta(tiny_episodes()))


def test_multi_step_loss_never_waits_for_the_device():
    model = tiny_model(torch.float32, inner_loop_checkpointing=True)
    model.multi_step_weights = [0.2, 0.3, 0.5]
    run(model.to("meta"), on_meta(tiny_episodes()))


def test_a_value_that_the_host_reads_is_found():
    with pytest.raises(RuntimeError, match="item.* cannot be called on meta"):
        run(default.small_model(torch.float32).to("meta"), on_meta(default.episodes()))


@pytest.mark.parametrize("n_way", [0, 1, 7, True, 3.0])
def test_a_number_of_classes_that_cannot_be_is_refused_without_reading_the_labels(n_way):
    batch = on_meta(default.episodes(["image"]))
    with pytest.raises(ValueError, match="must be an integer from 2"):
        run(default.small_model(torch.float32).to("meta"), {"image": {**batch["image"], "n_way": n_way}})


def test_the_trainer_s_batches_say_the_number_of_classes_where_a_model_would_read_it(tmp_path):
    dataset = tiny_dataset(2, ["image"])
    for head in ("prototype", "linear"):
        args = MetaTrainingArguments(output_dir=str(tmp_path), max_steps=1, use_cpu=True, report_to="none")
        trainer = MetaTrainer(tiny_model(head=head, n_way=args.n_way), args, train_dataset=dataset)
        batch = trainer.data_collator([dataset[0], dataset[1]])["episodes"]["image"]
        assert batch.get("n_way") == (int(batch["support_labels"].max()) + 1 if head == "prototype" else None)


class _Launches(TorchDispatchMode):
    """Counts operations with a kernel: views and empty tensors launch nothing."""

    WITHOUT_KERNEL = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")

    def __init__(self):
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        aliases = [result.alias_info for result in func._schema.returns]
        view = any(alias is not None and not alias.is_write for alias in aliases)
        self.number += not view and func._overloadpacket.__name__ not in self.WITHOUT_KERNEL
        return func(*args, **(kwargs or {}))


def count_launches(function: Callable[[], object]) -> int:
    """The number of operations with a kernel that `function()` runs."""
    with _Launches() as launches:
        function()
    return launches.number


def test_the_number_of_operations_does_not_depend_on_the_number_of_tasks():
    model = tiny_model(torch.float32).to("meta")
    batches = [on_meta(tiny_episodes(tasks=tasks)) for tasks in (2, 9)]
    few, many = (count_launches(partial(run, model, batch)) for batch in batches)
    assert few == many > 0


def test_views_and_empty_tensors_launch_nothing():
    def function():
        tensor = torch.empty(2, 3, device="meta").view(3, 2).T[:1].expand(5, 3)
        tensor.new_empty(4).relu_().add(1).as_strided((2,), (1,)).copy_(tensor[0, :2])

    assert count_launches(function) == 3

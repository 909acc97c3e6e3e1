"""`task_network="simpleshot"`: SimpleShot (Wang et al. 2019, arXiv 1911.04623), its transformation CL2N."""

import threading
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import initialization as init

from ..model.configuration_msmaml import MSMAMLConfig
from ..model.task_networks import register_task_network
from .baseline_tasks import BaselineTasks, Solved
from .class_statistics import class_means, squared_distances

_SHARE = 0.05  # of a forward pass in the running mean


class RunningMean(nn.Module):
    """
    The mean of the features of training samples, over about the last 20 forward passes in training: `value` (d,), which
    is not trained.

    Tasks run in threads, so that what they bring is put together between meta-steps, when the trainer calls `train` or
    saves the state, in an order that does not depend on theirs.
    """

    value: Float[Tensor, " d"]
    steps: Int[Tensor, ""]

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("value", torch.zeros(size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._new: list[Tensor] = []
        self._lock = threading.Lock()

    def reset_parameters(self) -> None:
        init.zeros_(self.value)
        init.zeros_(self.steps)

    def add(self, features: Float[Tensor, "T S d"]) -> None:
        """Notes the features of the support samples of some tasks."""
        mean = features.detach().mean(dim=(0, 1))
        with self._lock:
            self._new.append(mean)

    @torch.no_grad()
    def update(self) -> None:
        """Takes what was noted since the last time into the mean."""
        with self._lock:
            noted, self._new = self._new, []
        if not noted:
            return
        mean = torch.stack(sorted(noted, key=Tensor.tolist)).mean(dim=0)
        self.steps += 1
        # At first a mean of all steps, so that where it started counts for nothing.
        self.value.lerp_(mean.to(self.value), max(_SHARE, 1 / int(self.steps)))

    def train(self, mode: bool = True) -> Self:
        self.update()
        return super().train(mode)

    def _load_from_state_dict(self, *args: Any) -> None:
        with self._lock:
            self._new = []  # of the features before
        super()._load_from_state_dict(*args)

    def _save_to_state_dict(self, *args: Any) -> None:
        self.update()
        super()._save_to_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_new")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._new, self._lock = [], threading.Lock()


class SimpleShotTasks(BaselineTasks):
    """
    The features, trained to classify among all training classes, are centred by their mean over training samples and
    scaled to unit length; the logit of a class is the negative squared distance to the mean of its support samples.
    The mean is a running one, so that evaluations on the way have their own. The classifier of the training classes
    compares by cosines, as that of all `auxiliary_classes` here does; the paper's is linear.
    """

    is_supervised = True
    description = (
        "Features that were trained to classify among all training classes are centred and scaled to unit length; the "
        "nearest mean of a class's examples wins (SimpleShot, [arXiv 1911.04623](https://arxiv.org/abs/1911.04623))."
    )

    def parts(self, config: MSMAMLConfig, size: int) -> dict[str, nn.Module]:
        return {"centre": nn.ModuleDict({name: RunningMean(size) for name in config.modalities})}

    def solve(
        self, model: Any, modality: str, features: Float[Tensor, "T S d"], labels: Int[Tensor, "T S"], n_way: int
    ) -> Solved:
        running: RunningMean = model.task_network.centre[modality]
        if model.training:
            running.add(features)
        centre = running.value.to(features).expand(len(features), 1, -1)
        means = class_means(_placed(features, centre), labels, n_way)
        return Solved({"means": means, "centre": centre.contiguous()})

    def logits(
        self, model: Any, tensors: dict[str, Float[Tensor, "T ..."]], queries: Float[Tensor, "T Q d"]
    ) -> Float[Tensor, "T Q N"]:
        return -squared_distances(_placed(queries, tensors["centre"]), tensors["means"])


def _placed(features: Float[Tensor, "T samples d"], centre: Float[Tensor, "T 1 d"]) -> Float[Tensor, "T samples d"]:
    return F.normalize(features - centre, dim=-1)


register_task_network("simpleshot", SimpleShotTasks())

"""The losses of tasks, which the inner loop goes down and the outer loop minimises: the registry, and two of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Tensor

from .configuration_msmaml import MSMAMLConfig
from .losses import task_losses


@dataclass(frozen=True)
class TaskLoss:
    """
    The loss of T tasks, of support sets in the inner loop and of queries in the outer one.

    Args:
        function: of the outputs of the network (T, samples, N) and of the targets; it returns the loss of each task
            (T,) and can be differentiated twice.
        classifies: whether the targets are classes, int64 (T, samples). If not, they are numbers (T, samples, N) under
            `"support_labels"` and `"query_labels"`, and `n_way` is N, the number of outputs.
    """

    function: Callable[[Float[Tensor, "T samples N"], Tensor], Float[Tensor, " T"]]
    classifies: bool = True


_REGISTRY: dict[str, TaskLoss] = {}


def register_task_loss(name: str, loss: TaskLoss) -> None:
    """
    Makes `name` a loss that a config may name as its `task_loss`. Registering a name again replaces it.

    Raises:
        `TypeError`: `loss` is no [`TaskLoss`].
    """
    if not isinstance(loss, TaskLoss):
        raise TypeError(f"loss={loss!r} must be a TaskLoss")
    _REGISTRY[name] = loss


def task_loss_of(config: MSMAMLConfig) -> TaskLoss:
    """
    The loss that the config's `task_loss` names.

    Raises:
        `ValueError`: the name is not registered.
    """
    if config.task_loss not in _REGISTRY:
        raise ValueError(
            f"task_loss={config.task_loss!r} is unknown; registered are {', '.join(_REGISTRY)}. "
            "register_task_loss(name, TaskLoss(...)) adds one"
        )
    return _REGISTRY[config.task_loss]


def training_loss_of(config: MSMAMLConfig) -> Callable[[Float[Tensor, "T Q N"], Tensor], Float[Tensor, " T"]]:
    """The loss of queries in training, whose labels may be smoothed."""
    if config.label_smoothing:  # of cross-entropy alone, see `check_combinations`
        return partial(task_losses, label_smoothing=config.label_smoothing)
    return task_loss_of(config).function


def squared_errors(outputs: Float[Tensor, "T samples N"], targets: Float[Tensor, "T samples N"]) -> Float[Tensor, " T"]:
    """Mean squared error of each task, over samples and outputs (MAML, arXiv 1703.03400, equation 2)."""
    return (outputs - targets).square().mean(dim=(1, 2))


register_task_loss("cross_entropy", TaskLoss(task_losses))
register_task_loss("squared_error", TaskLoss(squared_errors, classifies=False))

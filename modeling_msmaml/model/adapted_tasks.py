"""What adaptation leaves behind: everything that classifying the queries of T tasks needs."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .norms import NormStatistics


@dataclass
class AdaptedTasks:
    """
    T tasks of one modality after the inner loop, as [`MSMAMLModel.adapt`] returns and [`MSMAMLModel.classify`] takes
    them.

    Args:
        modality: whose embedding reads the samples.
        parameters: the adapted parameters of the task network by name, each (T, ...).
        modulation: one vector a layer and task; an empty tuple without conditioning.
        statistics: of the support set, one pair a layer, with `norm_statistics="support"`; else `None`, and queries are
            normalised with their own.
        support_loss: support cross-entropy before each inner step, in nats.
    """

    modality: str
    parameters: dict[str, Float[Tensor, "T ..."]]
    modulation: tuple[Float[Tensor, "T size"], ...]
    statistics: list[NormStatistics] | None
    support_loss: Float[Tensor, "T num_inner_steps"]

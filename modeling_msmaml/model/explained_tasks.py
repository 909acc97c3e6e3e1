"""What an adapted task rests on: the losses of its examples, the weights of levels, and which samples are alike."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from .adaptation import AdaptedTasks
from .meta_batch import check_query


class ExplainedTasks:
    """The part of [`MSMAMLModel`] that says what its adapted tasks rest on, as far as its kind of task network can."""

    _kind: Any
    _read: Any

    def final_support_loss(
        self, adapted: AdaptedTasks, support: Shaped[Tensor, "T S ..."], support_labels: Int[Tensor, "T S"]
    ) -> Float[Tensor, " T"]:
        """The loss of the support sets after the last inner step, as `adapted.support_loss` has it before each."""
        return self._kind.final_support_loss(self, adapted, self._read(adapted.modality, support), support_labels)

    def level_weights(self, adapted: AdaptedTasks) -> list[dict[str, float]]:
        """
        The weights of the encoder's levels in each adapted task, by name, in the order of the encoder. A level's weight
        is the sum over its whitenings; together they are 1.

        Raises:
            `ValueError`: a model without levels, see `reads_levels`.
        """
        return self._kind.level_weights(self, adapted)

    def similarities(
        self, adapted: AdaptedTasks, support: Shaped[Tensor, "T S ..."], query: Shaped[Tensor, "T Q ..."]
    ) -> Float[Tensor, "T Q S"]:
        """
        How alike queries and support samples are to the adapted tasks, in [-1, 1]: the mean of the cosines of all
        channels, weighted as the tasks weigh them.

        Args:
            adapted: what [`MSMAMLModel.adapt`] returned for these support sets.
            support, query: raw inputs, or levels.

        Raises:
            `ValueError`: a model that compares no query with single samples, or see [`MSMAMLModel.classify`].
        """
        check_query(query, len(adapted.support_loss))
        examples, queries = (self._read(adapted.modality, own) for own in (support, query))
        return self._kind.similarities(self, adapted, examples, queries)

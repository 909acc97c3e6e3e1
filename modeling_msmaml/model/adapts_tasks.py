"""Adapting to one's own support sets, going on from there, and classifying queries."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from .adaptation import Adaptation, AdaptedTasks
from .configuration_msmaml import MSMAMLConfig
from .execution import uncompiled
from .inner_optimizers import inner_optimizer_class
from .meta_batch import check_query, check_support, check_unlabelled, classes_of
from .samples import differentiable


class AdaptsTasks:
    """The part of [`MSMAMLModel`] that adapts to support sets by themselves, without a meta-batch."""

    config: MSMAMLConfig
    fixed_n_way: Any
    _kind: Any
    _read: Any

    def adapt(
        self,
        modality: str,
        support: Shaped[Tensor, "T S ..."],
        support_labels: Int[Tensor, "T S"],
        n_way: int | None = None,
        unlabelled: Shaped[Tensor, "T U ..."] | None = None,
        *,
        num_inner_steps: int | None = None,
        inner_lr: float | None = None,
    ) -> AdaptedTasks:
        """
        Modulates and adapts the task network to T support sets of one modality, as one.

        Without `torch.no_grad()` the result keeps the graph of the whole inner loop.

        Args:
            modality: one of the model's modalities.
            support: raw inputs, see [`MetaBatch`].
            support_labels: from 0 to `n_way - 1`; numbers (T, S, n_way) with a `task_loss` of numbers.
            n_way: classes of these tasks, by default `config.n_way`, with prototypes as many as the labels. With
                another number than `config.n_way` the row of every class in a linear classifier starts from the mean of
                the trained rows (weight and bias): a symmetric new start, that gives the trained rows' average logit to
                every class until the inner loop tells them apart.
            unlabelled: raw inputs that refine the prototypes; only with `config.soft_kmeans_steps`.
            num_inner_steps: in place of that of the config. Beyond the steps that there are trained rates for, those of
                the last step go on.
            inner_lr: in place of that of the config; only where rates are not trained.

        Raises:
            `ValueError`: a modality that the model lacks, `n_way` below 2, misshapen tensors, labels out of range, an
                `inner_lr` without effect.
        """
        n_way = classes_of(support_labels, self.fixed_n_way) if n_way is None else n_way
        check_support(modality, support, support_labels, n_way, self.config)
        if unlabelled is not None:
            check_unlabelled(unlabelled, len(support), self.config)
        model = self._with(num_inner_steps, inner_lr)
        return model._adapt(modality, support, support_labels, n_way, unlabelled).adapted

    def adapt_further(
        self,
        adapted: AdaptedTasks,
        support: Shaped[Tensor, "T S ..."],
        support_labels: Int[Tensor, "T S"],
        *,
        num_inner_steps: int | None = None,
        inner_lr: float | None = None,
    ) -> AdaptedTasks:
        """
        More inner steps of adapted tasks from where they are: with the same support sets, as if they had been taken at
        once; with others, on from what was learned of the first.

        The modulation and, with prototypes, the classifier stay those of the first support sets; momentum and the like
        go on. The tasks that are given stay as they are.

        Args:
            adapted: what [`MSMAMLModel.adapt`] or this method returned.
            support, support_labels: see [`MSMAMLModel.adapt`]; of the same classes.
            num_inner_steps: the number of further steps, by default that of the config.
            inner_lr: see [`MSMAMLModel.adapt`].

        Raises:
            `ValueError`: see [`MSMAMLModel.adapt`]; another number of tasks; a kind of task network that cannot go on.
        """
        check_query(support, len(adapted.support_loss), "support")
        if (bias := adapted.parameters.get("classifier.bias")) is not None:
            check_support(adapted.modality, support, support_labels, bias.shape[1], self.config)
        model, graph = self._with(num_inner_steps, inner_lr), torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(graph):
            samples, labels = self._read(adapted.modality, differentiable(support)), differentiable(support_labels)
            go_on = self._kind.adapt_further
            return (go_on if self.config.first_order else uncompiled(go_on))(model, adapted, samples, labels)

    def classify(
        self, adapted: AdaptedTasks, query: Shaped[Tensor, "T Q ..."], *, temperature: float = 1.0
    ) -> Float[Tensor, "T Q N"]:
        """
        Logits of the queries of adapted tasks.

        Args:
            adapted: what [`MSMAMLModel.adapt`] returned. It can be used any number of times.
            query: raw inputs of each task, see [`MetaBatch`].
            temperature: what logits are divided by, above 0; more than 1 makes probabilities less certain.

        Raises:
            `ValueError`: `query` has another number of tasks; a temperature that is not positive.
        """
        check_query(query, len(adapted.support_loss))
        if not temperature > 0:
            raise ValueError(f"temperature={temperature!r} must be positive")
        logits = self._kind.classify(self, adapted, self._read(adapted.modality, query))
        return logits if temperature == 1 else logits / temperature

    def _with(self, num_inner_steps: int | None, inner_lr: float | None) -> Any:
        """The model with other settings of the inner loop for one call; it shares all parameters."""
        if num_inner_steps is None and inner_lr is None:
            return self
        model = copy.copy(self)
        model.config = copy.copy(self.config)
        if num_inner_steps is not None:
            if not self._kind.takes_inner_steps:
                raise ValueError(
                    f"num_inner_steps={num_inner_steps} has no effect with task_network={self.config.task_network!r}"
                )
            model.config.num_inner_steps, model.config.num_eval_inner_steps = num_inner_steps, None
        if inner_lr is not None:
            kind = f"task_network={self.config.task_network!r}"
            if not self._kind.takes_inner_lr:
                raise ValueError(f"inner_lr={inner_lr} has no effect with {kind}")
            if not inner_optimizer_class(self.config).has_fixed_rates(self.config):
                raise ValueError(f"inner_lr={inner_lr} has no effect: this model has trained rates")
            model.config.inner_lr = inner_lr
        return model

    def _adapt(
        self,
        modality: str,
        support: Tensor,
        support_labels: Tensor,
        n_way: int,
        unlabelled: Tensor | None = None,
        dropout: float = 0.0,
    ) -> Adaptation:
        graph = torch.is_grad_enabled()
        # The inner loop differentiates, which inference mode does not allow.
        with torch.inference_mode(False), torch.set_grad_enabled(graph):
            labels = differentiable(support_labels)
            # What torch.compile makes cannot be differentiated twice.
            adapt = self._kind.adapt if self.config.first_order else uncompiled(self._kind.adapt)
            return adapt(
                self,
                modality,
                self._read(modality, differentiable(support), dropout),
                labels,
                n_way,
                None if unlabelled is None else self._read(modality, differentiable(unlabelled), dropout),
            )

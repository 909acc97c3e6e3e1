"""A classifier of one's own sounds, texts or pictures from a few examples per class, in scikit-learn's manner."""

import copy
import os
from collections.abc import Hashable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from transformers import ProcessorMixin

from ..inputs.infer_modality import infer_modality
from ..inputs.label_values import refuse_look_alikes
from ..inputs.notes import Notes, listing, warn_of_unreadable
from ..inputs.reading import rows_one_by_one, stacked
from ..model.level_frontend import LevelFrontend
from ..model.modeling_msmaml import MSMAMLModel
from .base_model import default_model, is_model, prepared, stored_model
from .class_labels import balanced, label_array, labels_of, sorted_classes
from .classifier_files import StoredClassifier
from .conventions import Conventions, as_in_scikit_learn, inputs_as_list, rows_fit
from .encoded_inputs import encoded_batches, name_of
from .explanations import (
    Examples,
    ExplainedClassifier,
    name_of_example,
)
from .unchanged_files import UnchangedFiles, settings_of

UNSURE, UNREADABLE = "unsure", "unreadable"


class FewShotClassifier(StoredClassifier, ExplainedClassifier, Conventions, ClassifierMixin, BaseEstimator):
    """
    Adapts a meta-trained model to a few labelled examples of any classes, and classifies with it.

    ```python
    classifier = FewShotClassifier.from_pretrained()
    classifier.fit(["wren1.wav", "wren2.wav", "crow1.wav"], ["wren", "wren", "crow"])
    classifier.predict(["unknown.wav"])
    ```

    Inputs are lists whose items have one modality: paths; waveforms with `sampling_rate`; strings (a text file is given
    as `pathlib.Path`); PIL images or arrays; columns of `datasets`. The processor that was saved with the model decodes
    them. Sounds and texts that are longer than the model takes are cut, with a warning. A string that names a file, or
    is written like a path or an address, is no text unless `modality="text"` says so.

    A model on levels (`task_network="levels"`) takes sounds of up to 10 minutes, texts of up to 8,192 tokens and
    pictures of any aspect whole. It encodes an input once: levels of the inputs that were read last are remembered,
    by their content, for all classifiers of a process, so that to `fit` again with more examples, or within
    cross-validation, costs only what is new.

    Queries are normalised with the statistics of the examples (`norm_statistics="support"`), whatever the model was
    trained with, so that a prediction does not depend on what else is asked. With `head="prototype"` each class
    starts from the mean of its examples, whatever their number is; a linear head starts anew if the number of classes
    is not the one that it was trained with, see `n_way` of [`MSMAMLModel.adapt`].

    Args:
        model: folder or Hub repository of a trained model, or an [`MSMAMLModel`], which is copied and left as it is.
            By default the one that `MSMAML_MODEL` names, or the one that comes with the code.
        processor: of the model; by default what was saved in the same place.
        modality: `"audio"`, `"text"`, `"image"` or a registered one; by default told from the inputs.
        sampling_rate: of waveforms, Hz; files know their own.
        num_inner_steps: gradient steps of the adaptation; by default as in evaluation. 0 adapts nothing.
        balance_classes: whether the examples of smaller classes are repeated until every class has as many as the
            largest, since in training all had the same number; otherwise each example counts once. Models on levels
            take unequal numbers as they are, whatever it says.
        reject_below: in [0, 1]; inputs whose most probable class has a lower probability are predicted as `"unsure"`.
            May be changed without fitting again.
        skip_unreadable: whether inputs that cannot be read are passed over, with one warning that names them: `fit`
            leaves them out, `predict` calls them `"unreadable"`, and their probabilities are NaN. Otherwise they are an
            error.
        batch_size: inputs that are classified at once; no prediction depends on it.
        device: where the model runs, such as `"cpu"` or `"cuda"`.

    Attributes:
        classes_: sorted, or in order of appearance where they cannot be sorted.
        class_count_: (classes,) number of examples of each class.
        modality_: of the examples.
        support_losses_: (num_inner_steps + 1,) mean cross-entropy of the examples repeated as said, in nats, before
            each step and after the last. With a model on levels each example is compared with all others; it is 0 if
            every class has one example only.
        adapted_: the [`AdaptedTasks`].
        examples_: the [`Examples`] of a model on levels; `None` of others, which keep no examples.
        level_weights_: how much each level of the encoder counts in this task, by its name, the largest first; see
            [`MSMAMLModel.level_weights`]. Only of a model on levels.
    """

    def __init__(
        self,
        model: str | os.PathLike | MSMAMLModel | None = None,
        processor: ProcessorMixin | None = None,
        modality: str | None = None,
        sampling_rate: int | None = None,
        num_inner_steps: int | None = None,
        balance_classes: bool = True,
        reject_below: float | None = None,
        skip_unreadable: bool = False,
        batch_size: int = 128,
        device: str = "cpu",
    ):
        self.model = model
        self.processor = processor
        self.modality = modality
        self.sampling_rate = sampling_rate
        self.num_inner_steps = num_inner_steps
        self.balance_classes = balance_classes
        self.reject_below = reject_below
        self.skip_unreadable = skip_unreadable
        self.batch_size = batch_size
        self.device = device

    @as_in_scikit_learn
    def fit(self, inputs: Any, labels: Sequence[Hashable], sampling_rate: int | None = None) -> "FewShotClassifier":
        """
        Adapts to labelled examples.

        Args:
            inputs: see the class.
            labels: the class of each input: any hashable values, at least two different ones, and any number of
                examples of each.
            sampling_rate: of waveforms, Hz, in place of the classifier's.

        Raises:
            `ValueError`: inputs and labels that do not match, a single class, a class that is called `"unsure"` or
                `"unreadable"` where that would be predicted for another reason, or what cannot be read.
            `FileNotFoundError`: no such file, or no model.
        """
        items, labels = self._checked_examples(inputs, labels, [], sampling_rate)
        model, processor = self.base_model()
        unreadable = {} if self.skip_unreadable else None
        modality = self._modality_of(items, model, sampling_rate, unreadable)
        return self._learn(items, labels, sampling_rate, model, processor, modality, unreadable, None)

    @as_in_scikit_learn
    def partial_fit(
        self, inputs: Any, labels: Sequence[Hashable], sampling_rate: int | None = None
    ) -> "FewShotClassifier":
        """
        Adds labelled examples, of the known or of new classes, to those of earlier calls. The result is that of `fit`
        with all of them at once, but only the new ones are read and encoded. Model, device and number of inner steps
        stay those of `fit`. Without earlier examples it is the same as `fit`; a loaded classifier has some.

        Args:
            inputs, labels, sampling_rate: see [`FewShotClassifier.fit`]; one class is enough.

        Raises:
            As [`FewShotClassifier.fit`]; `ValueError`: a model that is not on levels, and so keeps no examples.
        """
        if not hasattr(self, "adapted_"):
            return self.fit(inputs, labels, sampling_rate)
        if self.examples_ is None:
            raise ValueError(
                f"task_network={self._model.config.task_network!r} keeps no examples to which others could be added: "
                "call fit with all examples"
            )
        self._check_arguments()
        items, labels = self._checked_examples(inputs, labels, self.examples_.labels, sampling_rate)
        model, processor, unreadable = self._model, self._processor, {} if self.skip_unreadable else None
        return self._learn(items, labels, sampling_rate, model, processor, self.modality_, unreadable, self.examples_)

    def _checked_examples(
        self, inputs: Any, labels: Sequence[Hashable], known: list[Hashable], sampling_rate: int | None = None
    ) -> tuple[list, list[Hashable]]:
        modality = self.modality_ if known else self.modality
        items = inputs_as_list(inputs, modality, sampling_rate or self.sampling_rate)
        labels = labels_of(labels)
        if len(items) != len(labels):
            raise ValueError(f"there are {len(items)} inputs, but {len(labels)} labels: give one label for each input")
        classes = sorted_classes(known + labels)
        if len(classes) < 2:
            raise ValueError(f"labels hold 1 class, {classes[0]!r}: a classifier needs examples of at least 2")
        refuse_look_alikes(list(dict.fromkeys(known + labels)), "labels")
        self._check_names(classes)
        return items, labels

    def _learn(
        self,
        items: list,
        labels: list[Hashable],
        sampling_rate: int | None,
        model: MSMAMLModel,
        processor: ProcessorMixin | None,
        modality: str,
        unreadable: dict[int, str] | None,
        known: Examples | None,
    ) -> "FewShotClassifier":
        """Adapts to examples, after those that are known already."""
        encoded = torch.cat(list(self._batches(items, modality, model, processor, sampling_rate, unreadable)))
        positions = [number for number in range(len(items)) if number not in (unreadable or {})]
        labels = [labels[number] for number in positions]
        if unreadable:
            if len(classes := sorted_classes((known.labels if known else []) + labels)) < 2:
                raise ValueError(f"only examples of {classes[0]!r} can be read: {listing(list(unreadable.values()))}")
            warn_of_unreadable(unreadable, len(items))
        examples = None
        if model.reads_levels:
            names = [name_of_example(items[number]) for number in positions]
            examples = Examples(encoded, labels, positions, names, len(items))
            examples = examples if known is None else known.followed_by(examples)
            encoded, labels = examples.levels, examples.labels
        self._model, self._processor, self.modality_ = model, processor, modality
        return self._adapt_to(encoded, labels, examples)

    def _adapt_to(
        self, encoded: Shaped[Tensor, "examples ..."], labels: list[Hashable], examples: Examples | None
    ) -> "FewShotClassifier":
        """Adapts to encoded examples of at least two classes."""
        model, modality = self._model, self.modality_
        self.classes_ = label_array(sorted_classes(labels))
        numbers = self._numbers_of(labels)
        self.class_count_ = numbers.bincount(minlength=len(self.classes_)).numpy()
        if self.balance_classes and model.needs_balanced_classes:
            rows = balanced(numbers)
            encoded, numbers = encoded[rows], numbers[rows]
        support, numbers = encoded.to(model.device)[None], numbers.to(model.device)[None]
        with torch.no_grad(), rows_fit(modality, support):
            self.adapted_ = model.adapt(modality, support, numbers, n_way=len(self.classes_))
            after = model.final_support_loss(self.adapted_, support, numbers)
        self.examples_ = examples
        self.support_losses_ = torch.cat([self.adapted_.support_loss[0], after]).double().cpu().numpy()
        return self

    def _numbers_of(self, labels: list[Hashable]) -> Int[Tensor, " labels"]:
        number = {label: i for i, label in enumerate(self.classes_.tolist())}
        return torch.tensor([number[label] for label in labels])

    @as_in_scikit_learn
    def predict_proba(self, inputs: Any, sampling_rate: int | None = None) -> Float[np.ndarray, "inputs classes"]:
        """
        Probabilities of the classes, in the order of `classes_`.

        Raises:
            As [`FewShotClassifier.fit`], and `sklearn.exceptions.NotFittedError`.
        """
        return self._probabilities(inputs, sampling_rate)

    def _probabilities(self, inputs: Any, sampling_rate: int | None) -> Float[np.ndarray, "inputs classes"]:
        check_is_fitted(self, "adapted_")
        self._check_arguments()
        items, unreadable = inputs_as_list(inputs, self.modality_), {} if self.skip_unreadable else None
        batches = self._batches(items, self.modality_, self._model, self._processor, sampling_rate, unreadable)
        probabilities = torch.cat(list(map(self.logits, batches))).double().softmax(dim=-1).cpu().numpy()
        if not unreadable:
            return probabilities
        warn_of_unreadable(unreadable, len(items))
        everything = np.full((len(items), probabilities.shape[1]), np.nan)
        everything[[number for number in range(len(items)) if number not in unreadable]] = probabilities
        return everything

    @as_in_scikit_learn
    def predict(self, inputs: Any, sampling_rate: int | None = None) -> Shaped[np.ndarray, " inputs"]:
        """
        The most probable class of each input; `"unsure"` where its probability is below `reject_below`.

        Raises:
            As [`FewShotClassifier.predict_proba`].
        """
        check_is_fitted(self, "adapted_")
        self._check_names(self.classes_.tolist())
        return self.decide(self._probabilities(inputs, sampling_rate))

    def decide(self, probabilities: Float[np.ndarray, "inputs classes"]) -> Shaped[np.ndarray, " inputs"]:
        """
        The prediction that follows from what `predict_proba` returned, see `predict`.

        Raises:
            `ValueError`: a class has the name that is predicted for what is rejected or cannot be read.
        """
        unread = np.asarray(np.isnan(probabilities).any(axis=1))
        self._check_names(self.classes_.tolist(), bool(unread.any()))
        predicted = self.classes_[np.where(unread[:, None], 0.0, probabilities).argmax(axis=1)]
        if self.reject_below is None and not unread.any():
            return predicted
        if self.classes_.dtype.kind != "U":
            predicted = predicted.astype(object)
        below = 0.0 if self.reject_below is None else self.reject_below
        predicted = np.where(probabilities.max(axis=1) < below, UNSURE, predicted)
        return np.where(unread, UNREADABLE, predicted)

    @as_in_scikit_learn
    def score(
        self,
        inputs: Any,
        labels: Sequence[Hashable],
        sample_weight: Sequence[float] | None = None,
        sampling_rate: int | None = None,
    ) -> float:
        """
        Accuracy in [0, 1]. `"unsure"` counts as wrong.

        Raises:
            As [`FewShotClassifier.predict_proba`]; `ValueError`: inputs and labels that do not match.
        """
        predicted, labels = self.predict(inputs, sampling_rate), labels_of(labels)
        if len(predicted) != len(labels):
            raise ValueError(f"there are {len(predicted)} inputs, but {len(labels)} labels: give one label for each")
        right = [guess == label for guess, label in zip(predicted.tolist(), labels, strict=True)]
        return float(np.average(right, weights=sample_weight))

    def encode(self, items: Sequence[Any], sampling_rate: int | None = None) -> Shaped[Tensor, "inputs ..."]:
        """What the model takes for these inputs, raw rows or levels, on the CPU; the first half of `predict`."""
        check_is_fitted(self, "adapted_")
        return torch.cat(list(self._batches(items, self.modality_, self._model, self._processor, sampling_rate)))

    def logits(self, encoded: Shaped[Tensor, "inputs ..."]) -> Float[Tensor, "inputs classes"]:
        """The model's logits for encoded inputs; the second half of `predict`."""
        check_is_fitted(self, "adapted_")
        with torch.no_grad(), rows_fit(self.modality_, encoded[None]):
            batches = encoded.to(self._model.device)[None].split(self.batch_size, dim=1)
            return torch.cat([self._model.classify(self.adapted_, batch)[0] for batch in batches])

    def _check_names(self, classes: Sequence[Hashable], has_unreadable: bool = False) -> None:
        """Refuses classes whose names `predict` gives to other inputs too, which nobody could tell apart."""
        if self.reject_below is not None and UNSURE in classes:
            raise ValueError(
                f"a class is called {UNSURE!r}, which reject_below={self.reject_below} predicts: rename the class"
            )
        if (self.skip_unreadable or has_unreadable) and UNREADABLE in classes:
            raise ValueError(
                f"a class is called {UNREADABLE!r}, which is predicted for inputs that cannot be read: rename the "
                "class, or do not skip them"
            )

    def _check_arguments(self) -> None:
        if self.reject_below is not None and not 0 <= self.reject_below <= 1:
            raise ValueError(f"reject_below={self.reject_below!r} must be a probability in [0, 1], or None")
        if not isinstance(self.balance_classes, (bool, np.bool_)):
            raise ValueError(f"balance_classes={self.balance_classes!r} must be True or False")
        for name, least in (("batch_size", 1), ("num_inner_steps", 0)):
            value = getattr(self, name)
            if value is None and name == "num_inner_steps":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
                raise ValueError(f"{name}={value!r} must be an integer of at least {least}")

    def base_model(self) -> tuple[MSMAMLModel, ProcessorMixin | None]:
        """The model before adaptation, set up for this classifier and not to be changed, and its processor."""
        self._check_arguments()
        given = getattr(self.model, "_orig_mod", self.model)  # `torch.compile` wraps a model
        if is_model(given):
            return prepared(copy.deepcopy(given), self.num_inner_steps, self.device), self.processor
        path = default_model() if given is None else os.fspath(cast(str, given))
        model, processor = stored_model(path, self.num_inner_steps, self.device)
        return model, processor if self.processor is None else self.processor

    def _modality_of(
        self, items: Sequence[Any], model: MSMAMLModel, sampling_rate: int | None, unreadable: dict[int, str] | None
    ) -> str:
        known = model.config.modalities
        if self.modality is None:
            return infer_modality(items, known, sampling_rate or self.sampling_rate, unreadable=unreadable)
        if self.modality not in known:
            raise ValueError(f"modality={self.modality!r} is unknown to this model, which has {', '.join(known)}")
        return self.modality

    def _batches(
        self,
        items: Sequence[Any],
        modality: str,
        model: MSMAMLModel,
        processor: ProcessorMixin | None,
        sampling_rate: int | None,
        unreadable: dict[int, str] | None = None,
    ) -> Iterator[Shaped[Tensor, "batch ..."]]:
        """What the model takes for these inputs, on the CPU: levels batch by batch, or all raw rows at once."""
        notes, rate, named_as_text = Notes(), sampling_rate or self.sampling_rate, self.modality == "text"
        read = partial(rows_one_by_one, items, modality, processor, notes, rate, "inputs", unreadable, named_as_text)
        if model.reads_levels:
            encoder = cast(LevelFrontend, model.frontends[modality]).encoder(model.device)
            files = UnchangedFiles((*settings_of(modality, processor), name_of(encoder)), notes)
            yield from encoded_batches(encoder, read(files.find), told=files.store)
        else:
            yield torch.from_numpy(stacked(list(read()), modality, "inputs"))
        notes.warn(stacklevel=6)


__all__ = ["UNREADABLE", "UNSURE", "FewShotClassifier"]

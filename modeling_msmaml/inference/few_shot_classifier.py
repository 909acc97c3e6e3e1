"""A classifier of one's own sounds, texts or pictures from a few examples per class, in scikit-learn's manner."""

import copy
import json
import os
import tempfile
import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import HfApi
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from transformers import ProcessorMixin

from ..inputs.infer_modality import infer_modality
from ..inputs.notes import listing
from ..inputs.reading import as_list, read
from ..model.losses import task_losses
from ..model.modeling_msmaml import MSMAMLModel
from .base_model import as_trained, default_model, prepared, require_model, saved_file, stored_model
from .class_labels import balanced, label_array, label_from_json, label_to_json, labels_of, sorted_classes
from .saved_tasks import load_tasks, save_tasks

CLASSIFIER_FILE = "few_shot_classifier.json"
TASKS_FILE = "few_shot_classifier.safetensors"
UNSURE, UNREADABLE = "unsure", "unreadable"
_FORMAT = 1
# Arguments that are saved with an adapted classifier; the model and its processor are saved beside them.
_SAVED_ARGUMENTS = (
    "modality",
    "sampling_rate",
    "num_inner_steps",
    "balance_classes",
    "reject_below",
    "skip_unreadable",
    "batch_size",
)


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """
    Adapts a meta-trained model to a few labelled examples of any classes, and classifies with it.

    ```python
    classifier = FewShotClassifier.from_pretrained("pretrained/msmaml-base")
    classifier.fit(["wren1.wav", "wren2.wav", "crow1.wav"], ["wren", "wren", "crow"])
    classifier.predict(["unknown.wav"])
    ```

    Inputs are lists whose items have one modality: paths; waveforms with `sampling_rate`; strings (a text file is given
    as `pathlib.Path`); PIL images or arrays; columns of `datasets`. The processor that was saved with the model decodes
    them, as in its training. Sounds and texts that are longer than the model takes are cut. A string that names a file,
    or is written like a path or an address, is no text unless `modality="text"` says so.

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
        num_inner_steps: gradient steps of the adaptation; by default as in training. 0 adapts nothing.
        balance_classes: whether the examples of smaller classes are repeated until every class has as many as the
            largest, since in training all had the same number; otherwise each example counts once.
        reject_below: in [0, 1]; inputs whose most probable class has a lower probability are predicted as `"unsure"`.
            May be changed without fitting again.
        skip_unreadable: whether inputs that cannot be read are passed over, with one warning that names them: `fit`
            leaves them out, `predict` calls them `"unreadable"`, and their probabilities are NaN. Otherwise they are an
            error.
        batch_size: inputs that are classified at once; no prediction depends on it.
        device: where the model runs, such as `"cpu"` or `"cuda"`.

    Attributes:
        classes_: sorted, or in order of appearance where they cannot be sorted.
        modality_: of the examples.
        support_losses_: (num_inner_steps + 1,) mean cross-entropy of the examples repeated as said, in nats, before
            each step and after the last.
        adapted_: the [`AdaptedTasks`].
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

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True  # what an input is, the processor knows
        return tags

    @classmethod
    def from_pretrained(cls, path_or_repo: str | os.PathLike | None = None, **arguments: Any) -> "FewShotClassifier":
        """
        A classifier on a trained model, or one that [`FewShotClassifier.save_pretrained`] stored, ready to predict.

        Args:
            path_or_repo: as `model` above.
            arguments: the other arguments above.

        Raises:
            `FileNotFoundError`: there is no model; the message says how to come by one.
        """
        path_or_repo = default_model() if path_or_repo is None else path_or_repo
        require_model(os.fspath(path_or_repo))
        saved = saved_file(path_or_repo, CLASSIFIER_FILE)
        if saved is None:
            classifier = cls(model=path_or_repo, **arguments)
            classifier.base_model()
            return classifier
        content = json.loads(Path(saved).read_text())
        if content.get("format") != _FORMAT:
            raise ValueError(f"{saved} has format={content.get('format')!r}, this version reads {_FORMAT}: fit again")
        classifier = cls(model=path_or_repo, **{**content["arguments"], **arguments})
        classifier._model, classifier._processor = classifier.base_model()
        classifier.modality_ = content["modality"]
        classifier.classes_ = label_array([label_from_json(entry) for entry in content["classes"]])
        classifier.support_losses_ = np.asarray(content["support_losses"])
        classifier.adapted_ = load_tasks(saved_file(path_or_repo, TASKS_FILE) or TASKS_FILE, classifier.device)
        return classifier

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """
        Stores the adapted classifier: the model with its processor, and the adapted parameters in safetensors. The
        examples are not needed any more. The folder can be pushed to the Hub, and fitted anew like any model.

        Raises:
            `sklearn.exceptions.NotFittedError`: it has not been fitted.
            `ValueError`: classes that are no strings, numbers, booleans, `None`, or tuples of these.
        """
        check_is_fitted(self, "adapted_")
        content = {
            "format": _FORMAT,
            "modality": self.modality_,
            "classes": [label_to_json(label) for label in self.classes_.tolist()],
            "support_losses": self.support_losses_.tolist(),
            "arguments": {name: getattr(self, name) for name in _SAVED_ARGUMENTS},
        }
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        as_trained(self._model).save_pretrained(folder)
        if self._processor is not None:
            self._processor.save_pretrained(folder)
        save_tasks(self.adapted_, folder / TASKS_FILE)
        (folder / CLASSIFIER_FILE).write_text(json.dumps(content, indent=2) + "\n")

    def push_to_hub(self, repo_id: str, private: bool | None = None, token: str | None = None) -> None:
        """
        Stores the adapted classifier in a model repository of the Hub, which is made if need be;
        `FewShotClassifier.from_pretrained(repo_id)` reads it.

        Raises:
            As [`FewShotClassifier.save_pretrained`], and what the Hub refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            hub = HfApi(token=token)
            repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
            hub.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Few-shot classifier")

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
        items, labels = as_list(inputs), labels_of(labels)
        if len(items) != len(labels):
            raise ValueError(f"there are {len(items)} inputs, but {len(labels)} labels: give one label for each input")
        classes = sorted_classes(labels)
        if len(classes) < 2:
            raise ValueError(f"labels hold 1 class, {classes[0]!r}: a classifier needs examples of at least 2")
        self._check_names(classes)
        model, processor = self.base_model()
        unreadable = {} if self.skip_unreadable else None
        modality = self._modality_of(items, model, sampling_rate, unreadable)
        support = self._encode(items, modality, processor, sampling_rate, unreadable)
        if unreadable:
            labels = [label for number, label in enumerate(labels) if number not in unreadable]
            if len(classes := sorted_classes(labels)) < 2:
                raise ValueError(f"only examples of {classes[0]!r} can be read: {listing(list(unreadable.values()))}")
            warn_of_unreadable(unreadable, len(items))
        number = {label: i for i, label in enumerate(classes)}
        support_labels = torch.tensor([number[label] for label in labels])
        if self.balance_classes and model.needs_balanced_classes:
            rows = balanced(support_labels)
            support, support_labels = support[rows], support_labels[rows]
        support_labels = support_labels.to(model.device)
        with torch.no_grad():
            adapted = model.adapt(modality, support[None], support_labels[None], n_way=len(classes))
            after = task_losses(model.classify(adapted, support[None]), support_labels[None])
        self._model, self._processor, self.modality_, self.adapted_ = model, processor, modality, adapted
        self.classes_ = label_array(classes)
        self.support_losses_ = torch.cat([adapted.support_loss[0], after]).double().cpu().numpy()
        return self

    def predict_proba(self, inputs: Any, sampling_rate: int | None = None) -> Float[np.ndarray, "inputs classes"]:
        """
        Probabilities of the classes, in the order of `classes_`.

        Raises:
            As [`FewShotClassifier.fit`], and `sklearn.exceptions.NotFittedError`.
        """
        check_is_fitted(self, "adapted_")
        self._check_arguments()
        items, unreadable = as_list(inputs), {} if self.skip_unreadable else None
        encoded = self._encode(items, self.modality_, self._processor, sampling_rate, unreadable)
        probabilities = self.logits(encoded).double().softmax(dim=-1).cpu().numpy()
        if not unreadable:
            return probabilities
        warn_of_unreadable(unreadable, len(items))
        everything = np.full((len(items), probabilities.shape[1]), np.nan)
        everything[[number for number in range(len(items)) if number not in unreadable]] = probabilities
        return everything

    def predict(self, inputs: Any, sampling_rate: int | None = None) -> Shaped[np.ndarray, " inputs"]:
        """
        The most probable class of each input; `"unsure"` where its probability is below `reject_below`.

        Raises:
            As [`FewShotClassifier.predict_proba`].
        """
        check_is_fitted(self, "adapted_")
        self._check_names(self.classes_.tolist())
        return self.decide(self.predict_proba(inputs, sampling_rate))

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
        """The raw rows that the model takes for these inputs, on the CPU; the first half of `predict`."""
        check_is_fitted(self, "adapted_")
        return self._encode(items, self.modality_, self._processor, sampling_rate).cpu()

    def logits(self, encoded: Shaped[Tensor, "inputs ..."]) -> Float[Tensor, "inputs classes"]:
        """The model's logits for encoded inputs; the second half of `predict`."""
        check_is_fitted(self, "adapted_")
        with torch.no_grad():
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
        if isinstance(given, MSMAMLModel):
            return prepared(copy.deepcopy(given), self.num_inner_steps, self.device), self.processor
        path = default_model() if given is None else os.fspath(given)
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

    def _encode(
        self,
        items: Sequence[Any],
        modality: str,
        processor: ProcessorMixin | None,
        sampling_rate: int | None,
        unreadable: dict[int, str] | None = None,
    ) -> Shaped[Tensor, "inputs ..."]:
        rate = sampling_rate or self.sampling_rate
        named_as_text = self.modality == "text"
        rows = read(items, modality, processor, rate, unreadable=unreadable, named_as_text=named_as_text)
        return rows.to(self.device)


def warn_of_unreadable(unreadable: dict[int, str], number: int) -> None:
    """Says in one warning which of `number` inputs were passed over, and why."""
    why = listing(list(unreadable.values()), joined="; ")
    warnings.warn(f"{len(unreadable)} of {number} inputs cannot be read: {why}", UserWarning, stacklevel=3)


__all__ = ["CLASSIFIER_FILE", "TASKS_FILE", "UNREADABLE", "UNSURE", "FewShotClassifier"]

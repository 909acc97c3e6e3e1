"""The folder of a fitted [`FewShotClassifier`]: the model, its processor, and what the classifier has learned."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from huggingface_hub import HfApi
from sklearn.utils.validation import check_is_fitted

from .base_model import as_trained, default_model, require_model, saved_file, shipped_or_given
from .class_labels import label_array, label_from_json, label_to_json
from .explanations import Examples
from .saved_tasks import load_examples, load_tasks, save_examples, save_tasks

CLASSIFIER_FILE = "few_shot_classifier.json"
TASKS_FILE = "few_shot_classifier.safetensors"
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


class StoredClassifier:
    """The part of [`FewShotClassifier`] that concerns its folder."""

    @classmethod
    def from_pretrained(cls, path_or_repo: str | os.PathLike | None = None, **arguments: Any) -> Self:
        """
        A classifier on a trained model, or one that [`FewShotClassifier.save_pretrained`] stored, ready to predict.

        Args:
            path_or_repo: as `model` above.
            arguments: the other arguments above.

        Raises:
            `FileNotFoundError`: there is no model; the message says how to come by one.
        """
        path_or_repo = default_model() if path_or_repo is None else shipped_or_given(path_or_repo)
        require_model(os.fspath(path_or_repo))
        saved = saved_file(path_or_repo, CLASSIFIER_FILE)
        if saved is None:
            classifier: Any = cast(Any, cls)(model=path_or_repo, **arguments)
            classifier.base_model()
            return classifier
        content = json.loads(Path(saved).read_text())
        if content.get("format") != _FORMAT:
            raise ValueError(f"{saved} has format={content.get('format')!r}, this version reads {_FORMAT}: fit again")
        classifier: Any = cast(Any, cls)(model=path_or_repo, **{**content["arguments"], **arguments})
        classifier._model, classifier._processor = classifier.base_model()
        classifier.modality_ = content["modality"]
        classifier.classes_ = label_array([label_from_json(entry) for entry in content["classes"]])
        file = saved_file(path_or_repo, TASKS_FILE) or TASKS_FILE
        if content.get("has_examples"):
            levels, numbers, positions = load_examples(file)
            labels = [classifier.classes_.tolist()[number] for number in numbers.tolist()]
            nameless: list[str | None] = [None] * len(labels)
            examples = Examples(levels, labels, positions.tolist(), nameless, content["given"])
            return classifier._adapt_to(examples.levels, labels, examples)
        classifier.support_losses_ = np.asarray(content["support_losses"])
        classifier.adapted_, classifier.examples_ = load_tasks(file, classifier.device), None
        return classifier

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """
        Stores the adapted classifier: the model with its processor, and in safetensors the adapted parameters or, of a
        model on levels, the levels of the examples, without their names. The inputs are not needed any more. The folder
        can be pushed to the Hub, and fitted anew like any model.

        Raises:
            `sklearn.exceptions.NotFittedError`: it has not been fitted.
            `ValueError`: classes that are no strings, numbers, booleans, `None`, or tuples of these.
        """
        own: Any = self
        check_is_fitted(own, "adapted_")
        content = {
            "format": _FORMAT,
            "modality": own.modality_,
            "classes": [label_to_json(label) for label in own.classes_.tolist()],
            "support_losses": own.support_losses_.tolist(),
            "arguments": {name: getattr(own, name) for name in _SAVED_ARGUMENTS},
        }
        if own.examples_ is not None:
            content |= {"has_examples": True, "given": own.examples_.given}
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        as_trained(own._model).save_pretrained(folder)
        if own._processor is not None:
            own._processor.save_pretrained(folder)
        if own.examples_ is None:
            save_tasks(own.adapted_, folder / TASKS_FILE)
        else:
            examples = own.examples_
            numbers = own._numbers_of(examples.labels)
            save_examples(examples.levels, numbers, torch.tensor(examples.positions), folder / TASKS_FILE)
        (folder / CLASSIFIER_FILE).write_text(json.dumps(content, indent=2) + "\n")

    def export(self, folder: str | os.PathLike) -> None:
        """
        Writes the classifier for programs without Python or without this package: `model.onnx`, one graph of encoder
        and adapted task that maps prepared inputs to `probabilities`, float32 (batch, classes); `classifier.json`, with
        the classes in their order, the graph's input and how it is prepared; and of texts `tokenizer.json`, for the
        library tokenizers. The JSON's entries are also in the metadata of the graph. It needs the extra `export`.

        The graph takes, in batches of any size, what the model's processor makes of inputs, and its probabilities are
        those of `predict_proba` up to rounding (some 1e-6):

        - of texts `input_ids`, int64 (batch, tokens): token ids without special tokens, with `padding` at the end;
        - of sounds `input_values`, int16 (batch, samples): mono at `sampling_rate` Hz, 1.0 being `scale`, with zeros at
          the end;
        - of pictures `pixel_values`, uint8 (batch, 3, height, width): upright, RGB, of one size in a batch.

        With a model on levels, inputs are of any length and size up to the largest in the JSON; with others, of the
        model's. `max_samples`, `max_tokens`, `max_shorter_side` and `max_longer_side` are what the processor cuts or
        scales down to.

        Args:
            folder: it is made if need be; files of these names in it are replaced.

        Raises:
            `ModuleNotFoundError`: the extra `export` is not installed.
            `ValueError`: a model that has no form as ONNX, such as one with an encoder or a modality that was
                registered; or classes that are no strings, numbers, booleans, `None`, or tuples of these.
            `sklearn.exceptions.NotFittedError`: it has not been fitted.
        """
        check_is_fitted(cast(Any, self), "adapted_")
        from .onnx_export import write_onnx  # imported here, since nothing else needs it

        write_onnx(self, Path(folder))

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

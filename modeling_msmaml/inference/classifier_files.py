"""The folder of a fitted [`FewShotClassifier`]: the model, its processor, and what the classifier has learned."""

import json
import os
import tempfile
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from huggingface_hub import CommitInfo, HfApi
from sklearn.utils.validation import check_is_fitted

from ..model.hub_files import limit_silence, uploaded
from ..model.saved_files import read_from, read_json
from .base_model import as_trained, default_model, loaded_model, require_model, saved_file, shipped_or_given
from .class_labels import label_array, label_to_json
from .classifier_card import CARD_FILE, classifier_card
from .explanations import Examples
from .learned import SAVED_ARGUMENTS, Learned, check_arguments
from .modality_parts import part_of_model, part_of_processor
from .pipeline_code import add_pipeline_code
from .saved_tasks import load_examples, load_tasks, save_examples, save_tasks

CLASSIFIER_FILE = "few_shot_classifier.json"
TASKS_FILE = "few_shot_classifier.safetensors"
_FORMAT = 1


class StoredClassifier:
    """The part of [`FewShotClassifier`] that concerns its folder."""

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: str | os.PathLike | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
        **arguments: Any,
    ) -> Self:
        """
        A classifier on a trained model, or one that [`FewShotClassifier.save_pretrained`] stored, ready to predict.

        Args:
            path_or_repo: as `model` above.
            revision, token, cache_dir, local_files_only: of a repository, as in transformers. Where one is given,
                `model` of the classifier is the loaded model.
            arguments: the other arguments above.

        Raises:
            `FileNotFoundError`: there is no model; the message says how to come by one.
            `OSError`: the Hub cannot be asked, or a file was damaged on its way; the message names repository, file and
                remedy.
        """
        path_or_repo = default_model() if path_or_repo is None else shipped_or_given(path_or_repo)
        given = {"revision": revision, "token": token, "cache_dir": cache_dir, "local_files_only": local_files_only}
        hub = {name: value for name, value in given.items() if value not in (None, False)}
        if token is False:
            hub["token"] = False  # no token, not even the one that is stored on this machine
        model: Any = path_or_repo
        if hub:
            model, processor = loaded_model(os.fspath(path_or_repo), **hub)
            arguments.setdefault("processor", processor)
        else:
            require_model(os.fspath(path_or_repo))
        classifier: Any = cast(Any, cls)(model=model, **arguments)
        return classifier.restored(path_or_repo, tuple(arguments), **hub)

    def restored(self, place: str | os.PathLike, given: Collection[str] = (), **hub: Any) -> Self:
        """
        This classifier, with what one that was saved has learned, if there is one at this place.

        Args:
            place: folder or repository of the model that it was given.
            given: names of arguments that stay as they are, whatever was saved.
            hub: arguments with which files are fetched.

        Raises:
            `OSError`: a file of it is missing, cannot be fetched, or was damaged on its way.
            `ValueError`: what was saved is of another version, or has arguments that are not saved.
        """
        classifier: Any = self
        saved = saved_file(place, CLASSIFIER_FILE, **hub)
        content = {} if saved is None else read_json(saved)
        if saved is not None and content.get("format") != _FORMAT:
            raise ValueError(f"{saved} has format={content.get('format')!r}, this version reads {_FORMAT}: fit again")
        stored = content.get("arguments", {})
        with read_from(saved or place):
            check_arguments(stored)
        for name in stored.keys() - given:
            setattr(classifier, name, stored[name])
        with read_from(saved or place):
            model, processor = classifier.base_model()
        if saved is None:
            return classifier
        classifier._model, classifier._processor = model, processor
        with read_from(saved):
            learned = Learned.of(content, model.config.modalities)
        classifier.modality_, classifier.classes_ = learned.modality, label_array(learned.classes)
        file = saved_file(place, TASKS_FILE, **hub)
        if file is None:
            raise FileNotFoundError(f"{saved} is that of a classifier, but {place} has no {TASKS_FILE}: fit again")
        if learned.given is not None:
            levels, numbers, positions = load_examples(file)
            with read_from(file):
                labels = [learned.classes[number] for number in numbers.tolist()]
                nameless: list[str | None] = [None] * len(labels)
                examples = Examples(levels, labels, positions.tolist(), nameless, learned.given)
                return classifier._adapt_to(examples.levels, labels, examples)
        classifier.support_losses_ = np.asarray(learned.support_losses)
        if learned.class_count is not None:
            classifier.class_count_ = np.asarray(learned.class_count)
        classifier.adapted_, classifier.examples_ = load_tasks(file, classifier.device), None
        return classifier

    def save_pretrained(self, save_directory: str | os.PathLike) -> None:
        """
        Stores the adapted classifier: the model with its processor, and in safetensors the adapted parameters or, of a
        model on levels, the levels of the examples, without their names. The inputs are not needed any more. A model on
        levels is saved with the encoder of the examples' modality alone. The card, `README.md`, says the classes, how
        many examples each had, and the licences of the model. The code is saved with it, for `pipeline(...,
        trust_remote_code=True)` without this package. The folder can be pushed to the Hub, and fitted anew like any
        model of this modality. One whose saving was stopped holds at most a model, never a classifier in which old and
        new files are mixed.

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
            "arguments": {name: getattr(own, name) for name in SAVED_ARGUMENTS},
        }
        if own.examples_ is not None:
            content |= {"has_examples": True, "given": own.examples_.given}
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        counts = getattr(own, "class_count_", None)  # which classifiers that were saved before do not have
        place = own._model.name_or_path
        card = _card_of(place)
        # Before another one may take its place.
        text = None if card is None else Path(card).read_text("utf-8", errors="replace")
        if counts is not None:
            content["class_count"] = counts.tolist()
        # Whoever reads the folder meanwhile, or after a full disk, finds a model that is not fitted.
        (folder / CLASSIFIER_FILE).unlink(missing_ok=True)
        part_of_model(as_trained(own._model), own.modality_).save_pretrained(folder)
        if own._processor is not None:
            part_of_processor(own._processor, own.modality_).save_pretrained(folder)
        classes = own.classes_.tolist()
        classifier_card(own.modality_, classes, content.get("class_count"), place, text).save(folder / CARD_FILE)
        if own.examples_ is None:
            save_tasks(own.adapted_, folder / TASKS_FILE)
        else:
            examples = own.examples_
            numbers = own._numbers_of(examples.labels)
            save_examples(examples.levels, numbers, torch.tensor(examples.positions), folder / TASKS_FILE)
        add_pipeline_code(folder)
        unfinished = folder / f"{CLASSIFIER_FILE}.writing"
        unfinished.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(unfinished, folder / CLASSIFIER_FILE)

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
        # By name, since nothing else needs it, and transformers carries with a saved model what an import names.
        try:
            onnx_export = import_module(".onnx_export", __package__)
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.endswith(".onnx_export"):
                raise ModuleNotFoundError(
                    "export is not part of the code that is saved with a model: install this project, and load the "
                    "classifier with FewShotClassifier.from_pretrained"
                ) from error
            raise
        onnx_export.write_onnx(self, Path(folder))

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        token: str | bool | None = None,
        *,
        commit_message: str = "Few-shot classifier",
        commit_description: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> CommitInfo:
        """
        Stores the adapted classifier in a model repository of the Hub, which is made if need be;
        `FewShotClassifier.from_pretrained(repo_id)` reads it.

        Args:
            repo_id: name of the repository.
            private: whether a new repository is private; by default as the account's settings say.
            token: of the Hub; by default the one that is stored on this machine.
            commit_message, commit_description: of the one commit.
            revision: the branch, which is made if need be; by default `"main"`.
            create_pr: whether the commit is a pull request.

        Raises:
            As [`FewShotClassifier.save_pretrained`], and what the Hub refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            limit_silence()
            hub = HfApi(token=token)
            repo_id = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None and not revision.startswith("refs/pr"):
                hub.create_branch(repo_id, branch=revision, exist_ok=True)
            return uploaded(
                repo_id,
                lambda: hub.upload_folder(
                    repo_id=repo_id,
                    folder_path=folder,
                    commit_message=commit_message,
                    commit_description=commit_description,
                    revision=revision,
                    create_pr=create_pr,
                ),
            )


def _card_of(place: str | None) -> str | None:
    """The card of the model in a place, if it has one that can be read now."""
    try:
        return saved_file(place, CARD_FILE) if place else None
    except OSError:
        return None

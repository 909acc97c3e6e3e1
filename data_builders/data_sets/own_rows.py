"""How the inputs of a user's own data become stored rows: the encoding of each modality, and the builders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
from transformers import PreTrainedTokenizerFast

from modeling_msmaml.inputs.fingerprints import text_hash
from modeling_msmaml.inputs.label_values import printable
from modeling_msmaml.inputs.labelled_inputs import LabelledInputs
from modeling_msmaml.inputs.notes import Notes
from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor
from modeling_msmaml.model.options import at_least, checked

from ..storage import text_rows
from ..storage.builder import FewShotBuilder, row_features

PROTOCOLS = ("class_disjoint", "sample_disjoint")


MODALITY_OPTIONS = {
    "audio": ("sampling_rate", "duration"),
    "text": ("unit", "passage_length", "min_count", "tokenizer"),
    "image": ("image_size",),
}


@dataclass(frozen=True)
class Encoding:
    """How an input becomes rows.

    Attributes:
        preprocessor: the part of the processor that encodes inputs, which becomes `FewShotSplit.preprocessor`.
        row_shape: shape of one row.
        encode: function of what `LabelledInputs.read` returns, the name of the input and the notes about inputs; it
            returns an integer array (rows, *row_shape).
        key: string for the key of the cache, which differs if the rows of an input may differ.
        fields: further attributes of the split.
    """

    preprocessor: Any
    row_shape: tuple[int, ...]
    encode: Callable[[Any, str, Notes], np.ndarray]
    key: str
    fields: dict[str, Any]


class OwnRows(FewShotBuilder):
    """Builds the rows of labelled inputs, one input after the other.

    Args:
        collection: the labelled inputs.
        encoding: the encoding of the inputs.
        descriptions: descriptions of the splits, in the form of `splits/protocols.py`.
        skip_unreadable: whether inputs that cannot be read are left out with a warning.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.

    Raises:
        ValueError: from `build`, inputs cannot be read, and `skip_unreadable` is false or none can be read. The message
            names all of them.

    Warns:
        UserWarning: from `build`, inputs that cannot be read are left out. The message names all of them.
    """

    def __init__(
        self,
        collection: LabelledInputs,
        encoding: Encoding,
        descriptions: dict[str, dict],
        skip_unreadable: bool,
        cache_dir: str | os.PathLike | None,
    ):
        self.collection, self.encoding, self.descriptions = collection, encoding, descriptions
        self.skip_unreadable = skip_unreadable
        self.modality, self.row_shape = collection.modality, encoding.row_shape
        super().__init__(cache_dir=cache_dir)

    def input_fingerprint(self, data_dir: str | None) -> str:
        """Returns a hash of the inputs and of their encoding."""
        return text_hash(self.collection.fingerprint, self.encoding.key, str(self.skip_unreadable))

    def protocols(self) -> dict[str, dict[str, dict]]:
        """Returns the same splits for every protocol, since `load_collection` has made them for the right one."""
        return dict.fromkeys(PROTOCOLS, self.descriptions)

    def _info(self) -> datasets.DatasetInfo:
        size = int(np.prod(self.row_shape))
        return datasets.DatasetInfo(features=row_features(self.modality, size, self.collection.class_names))

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        unreadable, notes = [], Notes()
        for number, name in enumerate(self.collection.names):
            try:
                rows = self.encoding.encode(self.collection.read(number), name, notes)
            except (ValueError, OSError) as error:
                unreadable.append(f"{name} ({printable(str(error))})")
                continue
            common = {"label": self.collection.labels[number], "source_id": self.collection.sources[number]}
            for position, row in enumerate(rows):
                yield f"{number}/{position}", {self.modality: self.flat(row), **common}
        notes.warn()
        if unreadable:
            report = (
                f"{len(unreadable)} of {len(self.collection.names)} inputs of {self.collection.name} cannot be read"
            )
            if not self.skip_unreadable or len(unreadable) == len(self.collection.names):
                raise ValueError(f"{report}: {'; '.join(unreadable)}. Remove them, or pass skip_unreadable=True")
            warnings.warn(f"{report} and were left out: {'; '.join(unreadable)}", UserWarning, stacklevel=2)


def readable_lines(collection: LabelledInputs) -> Iterator[str]:
    """Yields the lines of texts. Texts that cannot be read are skipped, since `OwnRows` reports them."""
    for number in range(len(collection.names)):
        try:
            text = collection.read(number)
        except (ValueError, OSError):
            continue
        yield from text.splitlines()


class OwnVocabulary(text_rows.VocabularyBuilder):
    """Builds the vocabulary of training texts.

    Args:
        collection: the training texts.
        cache_dir: folder for the Arrow files; by default the cache of `datasets`.
        min_count: least number of occurrences of a word.
    """

    def __init__(self, collection: LabelledInputs, cache_dir: str | os.PathLike | None, min_count: int):
        self.collection = collection
        super().__init__(cache_dir=cache_dir, min_count=min_count)

    def input_fingerprint(self, data_dir: str | None) -> str:
        """Returns the fingerprint of the texts."""
        return self.collection.fingerprint

    def training_sentences(self) -> Iterator[str]:
        return readable_lines(self.collection)


def _audio(
    training: LabelledInputs,
    cache_dir: str | os.PathLike | None,
    sampling_rate: int = 16_000,
    duration: float = 5.0,
) -> Encoding:
    extractor = MSMAMLFeatureExtractor(sampling_rate, duration)
    return Encoding(
        preprocessor=extractor,
        row_shape=(extractor.num_samples,),
        encode=lambda sound, name, notes: extractor.row(sound, name=name, notes=notes)[None],
        key=extractor.to_json_string(),
        fields={},
    )


def _image(training: LabelledInputs, cache_dir: str | os.PathLike | None, image_size: int = 32) -> Encoding:
    processor = MSMAMLImageProcessor(image_size)
    return Encoding(
        preprocessor=processor,
        row_shape=(3, image_size, image_size),
        encode=lambda image, name, notes: processor.row(image, name, notes)[None],
        key=processor.to_json_string(),
        fields={},
    )


def _text(
    training: LabelledInputs,
    cache_dir: str | os.PathLike | None,
    unit: str = "passage",
    passage_length: int | None = None,
    min_count: int | None = None,
    tokenizer: PreTrainedTokenizerFast | str | os.PathLike | None = None,
) -> Encoding:
    words = vectors = None
    if tokenizer is not None:
        words = text_rows.given_tokenizer(tokenizer, min_count)
        if passage_length is None and unit == "passage" and isinstance(tokenizer, (str, os.PathLike)):
            passage_length = text_rows.longest(words)
    length = text_rows.row_length(unit, passage_length)
    if words is None:
        if not training.names:
            raise ValueError(
                f"{training.name} has no training texts to make a vocabulary from: add some, or pass the checkpoint "
                "that is evaluated as tokenizer=..."
            )
        min_count = checked("min_count", text_rows.MIN_COUNT if min_count is None else min_count, at_least(1))
        own = OwnVocabulary(training, cache_dir, min_count)
        words, vectors = own.tokenizer(length), own.word_vectors()
    words.model_max_length = length
    return Encoding(
        preprocessor=words,
        row_shape=(length,),
        encode=lambda text, name, notes: text_rows.document_rows(words, text, unit, length),
        key=text_hash(words.backend_tokenizer.to_str(), unit, str(length)),
        fields={"tokenizer": words, "word_vectors": vectors},
    )


ENCODINGS = {"audio": _audio, "text": _text, "image": _image}

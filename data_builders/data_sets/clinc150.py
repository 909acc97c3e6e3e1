"""CLINC150: short requests to an assistant, of 150 intents (Larson et al. 2019; github.com/clinc/oos-eval, CC BY 3.0).

The 150 texts of every intent are pooled, whether they are in the official train, validation or test part; the texts
that are out of scope are left out. `class_disjoint` divides the ten domains of 15 intents, so that the test domains are
never seen in training. Every text is its own source.

`data_dir` holds `data_full.json`, or a folder `clinc150` with it. Without `data_dir` the official file is downloaded.
"""

from __future__ import annotations

import json
import os
from typing import Any

from transformers import PreTrainedTokenizerFast

from modeling_msmaml.model.options import at_least, checked

from ..splits.protocols import read_protocols
from ..storage.archives import Official
from ..storage.few_shot_split import FewShotSplit, split_of_builder
from ..storage.text_archives import (
    TEXT_LENGTH,
    ShortText,
    ShortTextReader,
    ShortTexts,
    ShortTextVocabulary,
    text_builder,
)
from ..storage.text_rows import TrainingTexts

OPTIONS = ("text_length", "min_count", "tokenizer")
PROTOCOLS = tuple(read_protocols("clinc150"))

_FILE = "data_full.json"
_PARTS = ("train", "val", "test")


class Clinc150Reader(ShortTextReader):
    """Reads the texts of the official file.

    Raises:
        ValueError: the file is not JSON, lacks a part, or has entries that are not a text and its intent. The message
            names the first of them.
    """

    OFFICIAL = Official(
        title="CLINC150",
        folders=("clinc150",),
        archives=(_FILE,),
        marker=_FILE,
        source="https://raw.githubusercontent.com/clinc/oos-eval/master/data/data_full.json",
        md5="30c29dc6ab78edf3b5dfa640be204cde",
    )

    def read_texts(self) -> list[ShortText]:
        try:
            content = json.loads(self.store.read_one(_FILE).decode("utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.store.path} is no JSON file ({error}): it is cut off. Fetch it again") from error
        lacking = [part for part in _PARTS if not isinstance(content, dict) or not isinstance(content.get(part), list)]
        if lacking:
            raise ValueError(f"{self.store.path} lacks the lists {', '.join(lacking)}. Fetch it again")
        texts = []
        for part in _PARTS:
            for number, entry in enumerate(content[part]):
                if not isinstance(entry, list) or [type(value) for value in entry] != [str, str]:
                    raise ValueError(
                        f"entry {number} of {part!r} in {self.store.path} is {entry!r}, not a text and its intent. "
                        "Fetch the file again"
                    )
                texts.append(ShortText(*entry, place=f"{part}/{number}"))
        return texts


class Clinc150Vocabulary(Clinc150Reader, ShortTextVocabulary):
    """Builds the vocabulary of the training texts of a protocol."""


class Clinc150(Clinc150Reader, ShortTexts):
    """Builds the texts as int32 token ids with zeros after their end, in the order of the official file."""

    VOCABULARY = Clinc150Vocabulary


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    text_length: int = TEXT_LENGTH,
    min_count: int | None = None,
    tokenizer: PreTrainedTokenizerFast | str | os.PathLike | None = None,
) -> FewShotSplit:
    """Loads one split of CLINC150, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        text_length: number of tokens in a row, at least 1 and by default 60.
        min_count, tokenizer: options as in `data_sets/brown.py`.

    Raises:
        ValueError: see `text_builder`; or `text_length` is not a positive integer.
    """
    length = checked("text_length", text_length, at_least(1))
    builder, fields = text_builder(Clinc150, data_dir, cache_dir, length, min_count, tokenizer, protocol=protocol)
    return split_of_builder(builder, split, protocol, **fields)


def training_texts(
    protocol: str, data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike | None, **options: Any
) -> TrainingTexts:
    """Returns the lines of the training texts, for a vocabulary of several data sets.

    Args:
        protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        **options: options of `load`, none of which changes the texts.
    """
    return Clinc150Vocabulary(cache_dir=cache_dir, data_dir=data_dir, protocol=protocol).training_texts()

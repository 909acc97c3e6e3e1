"""CLINC150: short requests to an assistant, of 150 intents (Larson et al. 2019; github.com/clinc/oos-eval, CC BY 3.0).

The 150 texts of every intent are pooled, whether they are in the official train, validation or test part; the texts
that are out of scope are left out. `class_disjoint` divides the ten domains of 15 intents, so that the test domains are
never seen in training. Every text is its own source.

`data_dir` holds `data_full.json`, or a folder `clinc150` with it. Without `data_dir` the official file is downloaded.
"""

from __future__ import annotations

import json
from functools import partial

from ..splits.protocols import read_protocols
from ..storage.archives import Official
from ..storage.text_archives import (
    ShortText,
    ShortTextReader,
    ShortTexts,
    ShortTextVocabulary,
    load_short_texts,
    short_training_texts,
)

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
        except (ValueError, RecursionError) as error:
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


load = partial(load_short_texts, Clinc150)
training_texts = partial(short_training_texts, Clinc150Vocabulary)

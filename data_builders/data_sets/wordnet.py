"""WordNet 3.0: definitions of nouns, classed by what the noun is a kind of (Princeton University; WordNet licence).

A class is a synset with at least 22 kinds, such as `dog.02084071`, and its texts are the definitions of these kinds,
at most 60. Definitions that say no more than that something is a genus are left out. `class_disjoint` divides the
classes at random. A text that is in two classes has one source.

`data_dir` holds `data.noun`, or a folder `wordnet` or `dict` with it, or the official archive. Without `data_dir` the
official archive is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

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
PROTOCOLS = tuple(read_protocols("wordnet"))

LEAST_KINDS = 22
MOST_KINDS = 60
_FILE = "data.noun"
_HYPERNYM = "@"


class Synset(NamedTuple):
    """A noun: its first word, its definition without examples, and the offset of what it is a kind of, if any."""

    offset: str
    word: str
    definition: str
    hypernym: str | None


class WordNetReader(ShortTextReader):
    """Reads the definitions of the official file.

    Raises:
        ValueError: the file is not that of WordNet's nouns. The message names the line.
    """

    OFFICIAL = Official(
        title="WordNet",
        folders=("wordnet", "dict", "WordNet-3.0/dict", "WNdb-3.0/dict"),
        archives=("WNdb-3.0.tar.gz",),
        marker=_FILE,
        source="https://wordnetcode.princeton.edu/3.0/WNdb-3.0.tar.gz",
        counts=((r".*data\.noun", 1),),
    )

    def read_texts(self) -> list[ShortText]:
        listed = set(self.class_names())
        classes = classes_of(self._synsets(self.store.read_one(_FILE)))
        return [
            ShortText(kind.definition, name, f"{name}/{kind.offset}")
            for name, kinds in classes.items()
            if name in listed
            for kind in kinds[:MOST_KINDS]
        ]

    def _synsets(self, content: bytes) -> Iterator[Synset]:
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), start=1):
            if line.startswith("  "):  # the licence
                continue
            try:
                yield synset_of(line)
            except (ValueError, IndexError):
                raise ValueError(
                    f"line {number} of {_FILE} in {self.store.path} is {line[:60]!r}, no synset of WordNet. "
                    "Fetch it again"
                ) from None


def synset_of(line: str) -> Synset:
    """Returns the synset of one line of a data file, whose format is that of wndb(5WN).

    Raises:
        ValueError, IndexError: the line has another format.
    """
    fields, _, gloss = line.partition(" | ")
    if not gloss:
        raise ValueError("no gloss")
    offset, _, _, words, first, *rest = fields.split()
    pointers = rest[2 * int(words, 16) - 1 :]  # after each word stands its lexical number
    relations = [pointers[1 + 4 * i : 3 + 4 * i] for i in range(int(pointers[0]))]
    hypernyms = [target for symbol, target in relations if symbol == _HYPERNYM]
    definition = gloss.strip().split('; "')[0].strip()
    return Synset(offset, first, definition, hypernyms[0] if hypernyms else None)


def classes_of(synsets: Iterator[Synset]) -> dict[str, Sequence[Synset]]:
    """Returns the kinds of each synset that has enough of them, by the name of the class."""
    words: dict[str, str] = {}
    kinds: dict[str, list[Synset]] = {}
    for synset in synsets:
        words[synset.offset] = synset.word
        if synset.hypernym is not None and not synset.definition.startswith(("genus", "type genus", "a genus")):
            kinds.setdefault(synset.hypernym, []).append(synset)
    return {
        f"{words[offset]}.{offset}": members
        for offset, members in sorted(kinds.items())
        if len(members) >= LEAST_KINDS and offset in words
    }


class WordNetVocabulary(WordNetReader, ShortTextVocabulary):
    """Builds the vocabulary of the training texts of a protocol."""


class WordNet(WordNetReader, ShortTexts):
    """Builds the texts as int32 token ids with zeros after their end, in the order of the official file."""

    VOCABULARY = WordNetVocabulary


load = partial(load_short_texts, WordNet)
training_texts = partial(short_training_texts, WordNetVocabulary)

"""Banking77: questions of customers to a bank, of 77 intents (Casanueva et al. 2020; PolyAI-LDN, CC BY 4.0).

The texts of the official train and test files are pooled. `class_disjoint` divides the intents 25/25/27 as in the first
division of ProtAugment (Dopierre et al. 2021). Every text is its own source.

`data_dir` holds `train.csv`, `test.csv` and `categories.json`, or a folder `banking77` with them. Without `data_dir`
the official files are downloaded.
"""

from __future__ import annotations

import csv
import io
import json
from functools import partial

from modeling_msmaml.inputs.labelled_inputs import few

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
PROTOCOLS = tuple(read_protocols("banking77"))

_CATEGORIES = "categories.json"
_PARTS = ("train", "test")
_COLUMNS = ["text", "category"]
_FOLDERS = ("banking77", "banking_data")
_MD5 = {
    "train.csv": "cec64185f4197906aabce0781ef9a19b",
    "test.csv": "8dcd9dc31b686c75ec1f24bf23c140cb",
    _CATEGORIES: "8312ff01430af97fba5a113b7a490269",
}


class Banking77Reader(ShortTextReader):
    """Reads the texts of the official files.

    Raises:
        ValueError: a file is not UTF-8, JSON or CSV, its columns or categories are others, or a row lacks a column. The
            message names the file and the line.
    """

    OFFICIAL = Official(
        title="Banking77",
        folders=_FOLDERS,
        parts=tuple(
            Official(
                title=f"{name} of Banking77",
                folders=_FOLDERS,
                archives=(name,),
                marker=name,
                source=f"https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/{name}",
                md5=md5,
            )
            for name, md5 in _MD5.items()
        ),
    )

    def read_texts(self) -> list[ShortText]:
        text = self._decoded(_CATEGORIES)
        try:
            categories = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._damaged(_CATEGORIES, f"is no JSON file ({error})") from error
        is_list = isinstance(categories, list) and all(isinstance(name, str) for name in categories)
        listed = set(categories) if is_list else set()
        if listed != set(self.class_names()):
            raise self._damaged(
                _CATEGORIES, f"does not list the 77 categories: {few(listed ^ set(self.class_names()))} differ"
            )
        return [text for part in _PARTS for text in self._read_table(part)]

    def _read_table(self, part: str) -> list[ShortText]:
        """Returns the texts of one file."""
        file, texts = f"{part}.csv", []
        table = csv.DictReader(io.StringIO(self._decoded(file), newline=""), strict=True)
        try:
            if table.fieldnames != _COLUMNS:
                raise self._damaged(file, f"has the columns {table.fieldnames}, not {_COLUMNS}")
            for number, row in enumerate(table):
                if None in row or None in row.values():
                    raise self._damaged(file, f"has a row at line {table.line_num} without exactly two columns")
                texts.append(ShortText(row["text"], row["category"], f"{part}/{number}"))
        except csv.Error as error:
            raise self._damaged(file, f"is no CSV file after line {table.line_num} ({error})") from error
        return texts

    def _decoded(self, file: str) -> str:
        try:
            return self.store.read_one(file).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(file, f"is not UTF-8 (byte {error.start})") from error

    def _damaged(self, file: str, what: str) -> ValueError:
        return ValueError(f"{file} in {self.store.path} {what}. Fetch it again")


class Banking77Vocabulary(Banking77Reader, ShortTextVocabulary):
    """Builds the vocabulary of the training texts of a protocol."""


class Banking77(Banking77Reader, ShortTexts):
    """Builds the texts as int32 token ids with zeros after their end, in the order of the official files."""

    VOCABULARY = Banking77Vocabulary


load = partial(load_short_texts, Banking77)
training_texts = partial(short_training_texts, Banking77Vocabulary)

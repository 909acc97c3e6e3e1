"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake et al. 2015; brendenlake/omniglot, MIT).

A class is a character, such as `Greek/character01`, and `class_disjoint` divides the alphabets. The option `part`
chooses the official archives:

- `"full"`: 30 background alphabets, of which the five smallest are for validation as in Meta-Dataset (Triantafillou et
  al. 2020), and the 20 evaluation alphabets for the test;
- `"small1"`, `"small2"`: the two official sets of five background alphabets. The smallest of them is for validation and
  the largest for the test.

Every drawing is its own source. It ends with the number of the drawer, such as `Greek/character01/0394_07`: the same
people drew all characters of an alphabet, so that the drawer as source would rule out most episodes.

`data_dir` holds the archives or their extracted folders, or a folder `omniglot` with them. Without `data_dir` the
official archives are downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import datasets

from modeling_msmaml.inputs.labelled_inputs import few
from modeling_msmaml.inputs.processing_msmaml import MSMAMLImageProcessor
from modeling_msmaml.model.options import at_least, checked

from ..splits.protocols import read_protocols
from ..storage.archives import Official, find_store
from ..storage.builder import ArchiveBuilder, row_features
from ..storage.few_shot_split import FewShotSplit, split_of_builder

OPTIONS = ("part", "image_size")
PROTOCOLS = tuple(read_protocols("omniglot"))

IMAGE_SIZE = 32  # pixels; the drawings have 105
_NAME = re.compile(r"(?P<character>[^/]+/character[0-9]{2})/(?P<drawing>[0-9]{4}_[0-9]{2})\.png")


def _archive(name: str, alphabet: str, md5: str) -> Official:
    """Returns the description of an official archive, of which only one alphabet is looked for to recognise it."""
    return Official(
        title=f"{name}.zip of Omniglot",
        folders=tuple(f"{folder}{name}" for folder in ("", "omniglot/", "omniglot-py/")) + ("omniglot", "omniglot-py"),
        archives=(f"{name}.zip",),
        marker=f"{alphabet}/",
        source=f"https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{name}.zip",
        md5=md5,
    )


@dataclass
class OmniglotConfig(datasets.BuilderConfig):
    """Says to which height and width (pixels) the drawings are scaled."""

    image_size: int = IMAGE_SIZE


class Omniglot(ArchiveBuilder):
    """Builds the drawings as uint8 (3, image_size, image_size), black on white, in the order of the characters.

    Raises:
        ValueError: from `build`, there are no drawings, or one has another kind of name, belongs to an unknown
            character or cannot be decoded. The message names the files.
    """

    BUILDER_CONFIG_CLASS = OmniglotConfig
    LISTS = "omniglot"
    OFFICIAL = Official(
        title="Omniglot",
        folders=("omniglot", "omniglot-py"),
        parts=(
            _archive("images_background", "Alphabet_of_the_Magi", "68d2efa1b9178cc56df9314c21c6e718"),
            _archive("images_evaluation", "Angelic", "6b91aef0f799c5bb55b94e3f2daec811"),
        ),
    )
    config: OmniglotConfig
    modality = "image"

    @classmethod
    def protocols(cls) -> dict[str, dict[str, dict]]:
        return read_protocols(cls.LISTS)

    def _info(self) -> datasets.DatasetInfo:
        size = self.config.image_size
        self.row_shape = (3, size, size)
        return datasets.DatasetInfo(features=row_features(self.modality, 3 * size * size, self.class_names()))

    @property
    def processor(self) -> MSMAMLImageProcessor:
        """The image processor that makes such rows."""
        return MSMAMLImageProcessor(self.config.image_size)

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        drawings = [name for name in self.store.names() if name.endswith(".png")]
        characters, processor = set(self.class_names()), self.processor
        matches = {name: _NAME.fullmatch(name) for name in drawings}
        wrong = [name for name, match in matches.items() if match is None or match["character"] not in characters]
        if wrong or not drawings:
            raise ValueError(
                f"{self.store.path} has {len(drawings)} drawings, of which {len(wrong)} are of no character of "
                f"{self.OFFICIAL.title}: {few(wrong)}. Fetch the data set again"
            )
        for name, content in self.store.read(drawings):
            row = processor.row(content, f"{self.store.path}/{name}")
            character, _, _ = name.rpartition("/")
            yield name, {self.modality: self.flat(row), "label": character, "source_id": name.removesuffix(".png")}


class OmniglotSmall1(Omniglot):
    """Builds the drawings of the first small set."""

    LISTS = "omniglot_small1"
    OFFICIAL = _archive("images_background_small1", "Balinese", "e704a628b5459e08445c13499850abc4")


class OmniglotSmall2(Omniglot):
    """Builds the drawings of the second small set."""

    LISTS = "omniglot_small2"
    OFFICIAL = _archive("images_background_small2", "Sanskrit", "b75a71a51d3b13f821f212756fe481fd")


PARTS: dict[str, type[Omniglot]] = {"full": Omniglot, "small1": OmniglotSmall1, "small2": OmniglotSmall2}


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    part: str | None = None,
    image_size: int = IMAGE_SIZE,
) -> FewShotSplit:
    """Loads one split of Omniglot, for `load_few_shot`.

    Args:
        split, protocol, data_dir, cache_dir: arguments of `load_few_shot`.
        part: `"full"`, `"small1"` or `"small2"`. The default is the first of them that `data_dir` holds, or `"full"`
            without `data_dir`.
        image_size: height and width of the rows in pixels, at least 1 and by default 32.

    Raises:
        ValueError: the part does not exist, or `image_size` is not a positive integer.
        FileNotFoundError: `data_dir` does not hold the part, or no part at all.
    """
    checked("image_size", image_size, at_least(1))
    if part is not None and part not in PARTS:
        raise ValueError(f"part={part!r} does not exist; the parts are {', '.join(PARTS)}")
    chosen = PARTS[part or _part_in(data_dir)]
    builder = chosen(cache_dir=cache_dir, data_dir=data_dir, image_size=image_size)
    return split_of_builder(builder, split, protocol, preprocessor=builder.processor)


def _part_in(data_dir: str | os.PathLike | None) -> str:
    """Returns the first part that the folder holds, or the full data set if there is no folder or nothing in it."""
    if data_dir is not None:
        for part, builder in PARTS.items():
            try:
                find_store(builder.OFFICIAL, data_dir)
                return part
            except FileNotFoundError:
                continue
    return "full"

"""ESC-50: clips of 5 s of environmental sounds of 50 classes (Piczak 2015; github.com/karolpiczak/ESC-50, CC BY-NC).

`class_disjoint` is the split of MetaAudio (Heggan et al. 2022) into 35, 5 and 10 classes. Clips that were cut from the
same recording (`src_file`) have the same source.

`data_dir` holds `ESC-50-master.zip`, or the folder `ESC-50` with `meta/esc50.csv` and `audio/`. Without `data_dir` the
official archive is downloaded.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import PurePosixPath

import datasets

from modeling_msmaml.inputs.labelled_inputs import few
from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor
from modeling_msmaml.inputs.read_audio import decode_audio, encode_waveform

from ..splits.protocols import read_protocols
from ..storage.archives import Official
from ..storage.builder import ArchiveBuilder, row_features
from ..storage.few_shot_split import FewShotSplit, split_of_builder

OPTIONS = ()
PROTOCOLS = tuple(read_protocols("esc50"))

SAMPLING_RATE = 16_000  # Hz
DURATION = 5.0  # s
_META = "meta/esc50.csv"
_COLUMNS = ("filename", "category", "src_file")


class Esc50(ArchiveBuilder):
    """Builds the clips as int16 samples (mono, 16 kHz, exactly 5 s), in the order of `meta/esc50.csv`.

    Raises:
        ValueError: from `build`, a column is missing, a class is not one of ESC-50, or a clip is missing or cannot be
            decoded. The message names the columns, classes or files.
    """

    OFFICIAL = Official(
        title="ESC-50",
        folders=("ESC-50", "ESC-50-master"),
        archives=("ESC-50-master.zip", "ESC-50.zip"),
        marker=_META,
        source="https://github.com/karolpiczak/ESC-50/archive/master.zip",
        counts=(("audio/*.wav", 2000), (_META, 1)),
    )
    modality = "audio"
    row_shape = (round(SAMPLING_RATE * DURATION),)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=row_features(self.modality, self.row_shape[0], self.class_names()))

    def _generate_examples(self) -> Iterator[tuple[int, dict]]:
        clips = self._read_meta()
        audio_of_stem = {
            PurePosixPath(name).stem: name for name in self.store.names() if PurePosixPath(name).parts[0] == "audio"
        }
        stems = [PurePosixPath(clip["filename"]).stem for clip in clips]
        absent = [clip["filename"] for clip, stem in zip(clips, stems, strict=True) if stem not in audio_of_stem]
        if absent:
            raise ValueError(
                f"{len(absent)} of the {len(clips)} clips that {_META} lists are not in the folder audio of "
                f"{self.store.path}: {few(absent)}. Fetch the data set again"
            )
        contents = self.store.read([audio_of_stem[stem] for stem in stems])
        for key, (clip, (name, content)) in enumerate(zip(clips, contents, strict=True)):
            waveform, sampling_rate = decode_audio(content, name=f"{self.store.path}/{name}")
            row = encode_waveform(waveform, sampling_rate, SAMPLING_RATE, self.row_shape[0])
            yield key, {self.modality: self.flat(row), "label": clip["category"], "source_id": clip["src_file"]}

    def _read_meta(self) -> list[dict[str, str]]:
        """Returns the rows of the table of clips, after checking its columns and classes."""
        table = csv.DictReader(io.StringIO(self.store.read_one(_META).decode("utf-8")))
        lacking = [column for column in _COLUMNS if column not in (table.fieldnames or [])]
        if lacking:
            raise ValueError(
                f"{_META} in {self.store.path} lacks the columns {', '.join(lacking)}. Fetch the data set again"
            )
        clips = list(table)
        unknown = sorted({str(clip["category"]) for clip in clips} - set(self.class_names()))
        if unknown or not clips:
            raise ValueError(
                f"{_META} in {self.store.path} has {len(clips)} clips and {len(unknown)} classes that ESC-50 lacks: "
                f"{few(unknown)}. Fetch the data set again"
            )
        return clips


def load(
    split: str, protocol: str, data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike | None
) -> FewShotSplit:
    """Loads one split of ESC-50, for `load_few_shot`."""
    builder = Esc50(cache_dir=cache_dir, data_dir=data_dir)
    extractor = MSMAMLFeatureExtractor(SAMPLING_RATE, DURATION)
    return split_of_builder(builder, split, protocol, preprocessor=extractor)

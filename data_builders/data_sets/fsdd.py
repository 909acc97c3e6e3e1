"""FSDD: English digits spoken by six people (Free Spoken Digit Dataset 1.0.10, Jackson et al.; CC BY-SA 4.0).

The class of a recording is its digit, and its source is the speaker. The ten digits cannot be divided into classes for
training and for the test, so `class_disjoint` has a test split only: all recordings. `sample_disjoint` divides the
speakers 60/20/20 %, so that a speaker is never in two splits; of four speakers, validation and test get one each.

Every speaker says every digit. With `source_disjoint=True`, the default of `EpisodeDataset`, the support and query sets
of an episode share no speaker, which needs two speakers in a split. A split with one speaker needs
`source_disjoint=False`.

`data_dir` holds `free-spoken-digit-dataset-1.0.10.zip`, or the folder `fsdd` with `recordings/`. Without `data_dir` the
archive of the official version is downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import datasets

from modeling_msmaml.inputs.labelled_inputs import few
from modeling_msmaml.inputs.processing_msmaml import MSMAMLFeatureExtractor
from modeling_msmaml.inputs.read_audio import decode_audio, encode_waveform

from ..splits.protocols import read_protocols
from ..storage.archives import Official
from ..storage.builder import ArchiveBuilder, row_features
from ..storage.few_shot_split import FewShotSplit, split_of_builder

OPTIONS = ()
PROTOCOLS = tuple(read_protocols("fsdd"))

SAMPLING_RATE = 16_000  # Hz; the recordings have 8,000
DURATION = 5.0  # s; the recordings have 0.1 to 2.3
_NAME = re.compile(r"recordings/(?P<digit>[0-9])_(?P<speaker>[^_/]+)_(?P<number>[0-9]+)\.wav")


class Fsdd(ArchiveBuilder):
    """Builds the recordings as int16 samples (mono, 16 kHz, exactly 5 s with zeros after the end), sorted by name.

    Raises:
        ValueError: from `build`, there are no recordings, or one has another kind of name or cannot be decoded. The
            message names the files.
    """

    OFFICIAL = Official(
        title="FSDD",
        folders=("fsdd", "free-spoken-digit-dataset", "free-spoken-digit-dataset-1.0.10"),
        archives=("free-spoken-digit-dataset-1.0.10.zip", "free-spoken-digit-dataset-master.zip"),
        marker="recordings/",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
        counts=(("recordings/*.wav", 3000),),
    )
    modality = "audio"
    row_shape = (round(SAMPLING_RATE * DURATION),)

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=row_features(self.modality, self.row_shape[0], self.class_names()))

    def _generate_examples(self) -> Iterator[tuple[str, dict]]:
        recordings = [name for name in self.store.names() if name.startswith("recordings/") and name.endswith(".wav")]
        wrong = [name for name in recordings if not _NAME.fullmatch(name)]
        if wrong or not recordings:
            raise ValueError(
                f"{self.store.path} has {len(recordings)} recordings, of which {len(wrong)} are not named "
                f"<digit>_<speaker>_<number>.wav: {few(wrong)}. Fetch the data set again"
            )
        for name, content in self.store.read(recordings):
            digit, speaker, _ = _NAME.fullmatch(name).groups()  # type: ignore[union-attr]
            waveform, sampling_rate = decode_audio(content, name=f"{self.store.path}/{name}")
            row = encode_waveform(waveform, sampling_rate, SAMPLING_RATE, self.row_shape[0])
            yield name, {self.modality: self.flat(row), "label": digit, "source_id": speaker}


def load(
    split: str, protocol: str, data_dir: str | os.PathLike | None, cache_dir: str | os.PathLike | None
) -> FewShotSplit:
    """Loads one split of FSDD, for `load_few_shot`."""
    builder = Fsdd(cache_dir=cache_dir, data_dir=data_dir)
    extractor = MSMAMLFeatureExtractor(SAMPLING_RATE, DURATION)
    return split_of_builder(builder, split, protocol, preprocessor=extractor)

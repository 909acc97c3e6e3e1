"""Speech Commands v2: 105,829 recordings of 1 s of 35 spoken English words (Warden 2018; CC BY 4.0).

The source of a recording is its speaker, whose code is the part of the file name before `_nohash_`.

The option `task` chooses the lists of words, and may be a suffix of the name (`speech_commands:digits`):
    metaaudio: as in MetaAudio (Heggan et al. 2022), all 35 words are for the test of models that were trained on other
        data sets, so that `class_disjoint` has no other split; this is the default. `sample_disjoint` divides the
        speakers.
    commands, digits: as in Chen et al. (2020), ten commands or the ten digits are for the test and 20 other words for
        training. The five words that they use as unknown ones are left out, and there is no validation split.

`data_dir` holds the extracted archive, one folder per word. Its noises (`_background_noise_`) are left out. The option
`duration` (s) is 5 by default, as for the other sounds; the cache then takes 17 GB, and with `duration=1.0` 3.4 GB.
`listed_classes.py` describes the other options.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

from ..splits.protocols import read_protocols
from ..storage.class_folders import ClassFolders
from ..storage.few_shot_split import FewShotSplit
from . import listed_classes
from .listed_classes import load_listed

OPTION_IN_NAME = "task"
OPTIONS = ("task", "duration", *listed_classes.OPTIONS)
TASKS = ("metaaudio", "commands", "digits")
_ALL_WORDS = read_protocols("speech_commands_metaaudio")
PROTOCOLS = tuple(_ALL_WORDS)

LAYOUT = ClassFolders(
    title="Speech Commands v2",
    modality="audio",
    roots=(
        *("speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02", "speech_commands_v2"),
        *("speech_commands", "SpeechCommands"),
    ),
    example="backward",
    origin="http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz (extract it)",
    counts=(1557, 4052),
)
_MARK = "_nohash_"


def speaker_of(path: str) -> str:
    """Returns the code of the speaker of a recording.

    Args:
        path: path of the recording, such as `bed/00f0204f_nohash_0.wav`.

    Raises:
        ValueError: the name of the file is not of this form.
    """
    speaker, mark, _ = PurePosixPath(path).name.partition(_MARK)
    if not mark or not speaker:
        raise ValueError(
            f"{path} of Speech Commands does not name its speaker: recordings are called <speaker>{_MARK}<number>.wav. "
            "Rename or remove it"
        )
    return speaker


def load(
    split: str,
    protocol: str,
    data_dir: str | os.PathLike | None,
    cache_dir: str | os.PathLike | None,
    task: str = TASKS[0],
    **options: Any,
) -> FewShotSplit:
    """Loads one split of Speech Commands v2, for `load_few_shot`; see `load_listed`.

    Raises:
        ValueError: `task` does not exist.
    """
    if task not in TASKS:
        raise ValueError(f"task={task!r} does not exist; the tasks are {', '.join(TASKS)}")
    return load_listed(
        "speech_commands",
        LAYOUT,
        split,
        protocol,
        data_dir,
        cache_dir,
        lists=f"speech_commands_{task}",
        class_names=_ALL_WORDS["class_disjoint"]["test"]["classes"],  # so that all tasks share one cache
        source_of=speaker_of,
        **options,
    )

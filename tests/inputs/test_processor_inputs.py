"""What a processor takes as one sound or picture, as several, and what it refuses because it may be either."""

import io
import types
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow
import pytest
import torch
from PIL import Image

from modeling_msmaml.inputs.reading import as_list, read

from ..own_data import SAMPLING_RATE, tiny_processor, write_file

PROCESSOR = tiny_processor()
CALLS = {
    "audio": lambda sounds: PROCESSOR(audio=sounds, sampling_rate=SAMPLING_RATE)["input_values"],
    "image": lambda pictures: PROCESSOR(images=pictures)["pixel_values"],
}
ARGUMENTS = {"audio": "audio", "image": "images"}
RNG = np.random.default_rng(0)
SOUNDS = RNG.uniform(-0.5, 0.5, (3, 400))
GREYS = RNG.integers(0, 256, (3, 20, 24), dtype=np.uint8)
FEATURES = {"audio": datasets.Audio, "image": datasets.Image}
# Name -> two paths as another type.
SEVERAL = {
    "tuple": tuple,
    "generator": lambda paths: (path for path in paths),
    "series": pandas.Series,
    "frame of one column": lambda paths: pandas.DataFrame({"own": paths}),
    "array": np.array,
    "array of objects": lambda paths: np.array(paths, dtype=object),
    "pyarrow": pyarrow.array,
    "chunked": lambda paths: pyarrow.chunked_array([paths]),
    "column of datasets": lambda paths: datasets.Dataset.from_dict({"own": paths})["own"],
    "values of a dict": lambda paths: dict(enumerate(paths)).values(),
    "open contents": lambda paths: [io.BytesIO(Path(path).read_bytes()) for path in paths],
    "contents": lambda paths: [memoryview(Path(path).read_bytes()) for path in paths],
}
ONE = {
    "string": str,
    "open content": lambda path: io.BytesIO(Path(path).read_bytes()),
    "array of one string": lambda path: np.array(path),
    "dict": lambda path: types.MappingProxyType({"path": path}),
}


@pytest.fixture(params=CALLS)
def files(request, tmp_path):
    """A modality, and two files of it."""
    return request.param, [str(write_file(request.param, tmp_path, kind, 0)) for kind in range(2)]


@pytest.mark.parametrize("name", SEVERAL)
def test_the_processor_takes_several_as_the_classifier_does(name, files):
    modality, paths = files
    rows = CALLS[modality](SEVERAL[name](paths))
    assert np.array_equal(rows, read(as_list(SEVERAL[name](paths)), modality, PROCESSOR))
    assert np.array_equal(rows, np.concatenate([CALLS[modality](path) for path in paths]))


@pytest.mark.parametrize("name", ONE)
def test_the_processor_takes_one(name, files):
    modality, paths = files
    assert np.array_equal(CALLS[modality](ONE[name](paths[0])), CALLS[modality](paths[:1]))


def test_columns_of_datasets_are_read_row_by_row(files):
    modality, paths = files
    column = datasets.Dataset.from_dict({"own": paths}).cast_column("own", FEATURES[modality]())["own"]
    assert np.array_equal(CALLS[modality](column), CALLS[modality](paths))


@pytest.mark.filterwarnings("ignore:the model reads")
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
@pytest.mark.parametrize(
    ("modality", "values"),
    [
        ("audio", SOUNDS),
        ("audio", SOUNDS[:2]),
        ("audio", np.repeat(SOUNDS, 3, axis=0)[:8]),
        ("image", GREYS),
        ("image", GREYS[:2]),
        ("image", GREYS[[0, 1, 2, 0]]),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_arrays_that_may_be_one_or_several_are_refused_with_a_remedy_that_works(modality, values, make):
    given, call, argument = make(values), CALLS[modality], ARGUMENTS[modality]
    with pytest.raises(
        ValueError, match=rf"{argument} of shape .* list\({argument}\) for several .*\[{argument}\] for"
    ):
        call(given)
    rows = call(list(given))
    assert len(rows) == len(values)
    assert np.array_equal(rows, read(as_list(given), modality, PROCESSOR, SAMPLING_RATE))
    if len(values) == 3:
        assert len(call([given])) == 1


@pytest.mark.filterwarnings("ignore:the model reads")
@pytest.mark.parametrize(
    ("modality", "values", "rows"),
    [
        ("audio", SOUNDS[0], 1),
        ("audio", pandas.Series(SOUNDS[0]), 1),
        ("audio", SOUNDS[:1], 1),
        ("audio", SOUNDS[0][:, None], 1),
        ("audio", SOUNDS[:2].T, 1),
        ("image", GREYS[0], 1),
        ("image", GREYS[:1], 1),
        ("image", GREYS.transpose(1, 2, 0), 1),
        ("image", np.stack([GREYS.transpose(1, 2, 0)] * 2), 2),
        ("image", [GREYS[0], Image.fromarray(GREYS[1])], 2),
    ],
)
def test_arrays_that_are_told_apart_by_shape(modality, values, rows):
    assert len(CALLS[modality](values)) == rows


@pytest.mark.parametrize("modality", CALLS)
def test_what_holds_no_input_or_has_no_order_is_refused(modality, tmp_path):
    argument = ARGUMENTS[modality]
    for nothing in ([], (), np.array([], dtype=object), iter([])):
        with pytest.raises(ValueError, match=f"{argument} is empty: give at least one input"):
            CALLS[modality](nothing)
    with pytest.raises(ValueError, match=f"{argument} is a set, which has no order"):
        CALLS[modality]({"a", "b"})
    with pytest.raises(ValueError, match=f"{argument} is a table with the columns x, y: give one column"):
        CALLS[modality](pandas.DataFrame({"x": ["a"], "y": ["b"]}))
    with open(write_file(modality, tmp_path, 0, 0), "rb") as file:
        with pytest.raises(ValueError, match=f"{argument} is an open file, a BufferedReader: give its path"):
            CALLS[modality](file)
        with pytest.raises(ValueError, match="inputs is an open file"):
            as_list(file)

"""Damaged files end in a row or in a documented error, in little time and memory."""

import contextlib
import io
import os
import resource
import time

import numpy as np
import pytest
import soundfile
from PIL import Image

from modeling_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor
from modeling_msmaml.inputs.labelled_files import labelled_files
from modeling_msmaml.inputs.notes import UnreadableInput
from modeling_msmaml.inputs.read_text import read_text

# How many mutations of all files together; `make fuzz` asks for more.
MUTATIONS = int(os.environ.get("MSMAML_MUTATIONS", "300"))


def encoded_sound(kind: str, subtype: str | None = None) -> bytes:
    stream = io.BytesIO()
    wave = 0.5 * np.sin(np.arange(4_000) / 5)
    soundfile.write(stream, np.stack([wave, wave], axis=1), 22_050, format=kind, subtype=subtype)
    return stream.getvalue()


def encoded_picture(kind: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert(mode).save(stream, kind)
    return stream.getvalue()


SOUNDS = [encoded_sound(kind) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64")]
PICTURES = [encoded_picture(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")]
PICTURES += [encoded_picture("PNG", "RGBA"), encoded_picture("PNG", "P"), encoded_picture("TIFF", "F")]
TABLE = b"file_name,label,source\na/0.txt,x,one\na/1.txt,y,two\n"


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut off, doubled or put elsewhere."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        place, length = int(rng.integers(len(damaged) + 1)), int(rng.integers(1, 9))
        match rng.integers(5):
            case 0:
                damaged[place : place + length] = rng.bytes(length)
            case 1:
                damaged[place : place + 4] = int(rng.integers(2**32)).to_bytes(4, "big")
            case 2:
                damaged = damaged[:place] or damaged
            case 3:
                damaged[place:place] = damaged[: length * 8]
            case 4:
                damaged[place : place + length] = b"\xff" * length
    return bytes(damaged)


def check(read, contents: list[bytes], number: int) -> None:
    rng = np.random.default_rng(number)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for count in range(number):
        content = mutated(contents[count % len(contents)], rng)
        start = time.perf_counter()
        with contextlib.suppress(UnreadableInput, FileNotFoundError):
            read(content)
        assert time.perf_counter() - start < 5, content
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    assert grown < 0.5, f"{grown} GiB"


@pytest.mark.filterwarnings("ignore")
def test_damaged_sounds():
    extractor = MSMAMLFeatureExtractor()
    for content in SOUNDS:
        assert extractor.row(content).any()
    check(extractor.row, SOUNDS, MUTATIONS // 2)


@pytest.mark.filterwarnings("ignore")
def test_damaged_pictures():
    processor = MSMAMLImageProcessor()
    for content in PICTURES:
        assert processor.row(content).shape == (3, 32, 32)
    check(processor.row, PICTURES, MUTATIONS // 3)


def test_damaged_texts_and_tables(tmp_path):
    for name in ("a/0.txt", "a/1.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("some words")

    def read(content):
        (tmp_path / "a" / "0.txt").write_bytes(content)
        read_text(tmp_path / "a" / "0.txt")

    def list_files(content):
        (tmp_path / "metadata.csv").write_bytes(content)
        try:
            labelled_files(tmp_path, "text")
        except ValueError as error:
            assert str(tmp_path) in str(error), "the folder or the table is named"

    check(read, ["Grüße, ein paar Wörter.".encode()], MUTATIONS // 12)
    check(list_files, [TABLE], MUTATIONS // 12)

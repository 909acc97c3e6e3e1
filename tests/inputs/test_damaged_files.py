"""Damaged files end in a row or in a documented error that names them, each in little time and memory."""

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from .measured_reading import Reader, Reading, read_all, report

# How many mutations of all files together; `make fuzz` asks for more.
MUTATIONS = int(os.environ.get("MSMAML_MUTATIONS", "300"))
INTACT = "intact"  # in place of the number of a mutation


def encoded_sound(kind: str, subtype: str | None = None, rate: int = 22_050) -> bytes:
    stream = io.BytesIO()
    wave = 0.5 * np.sin(np.arange(4_000) / 5)
    soundfile.write(stream, np.stack([wave, wave], axis=1), rate, format=kind, subtype=subtype)
    return stream.getvalue()


def encoded_picture(kind: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif mode != "RGBA":
        image = image.convert(mode)
    image.save(stream, kind)
    return stream.getvalue()


def large_picture() -> bytes:
    """A small file that takes tens of megabytes when it is decoded."""
    stream = io.BytesIO()
    Image.new("P", (3_000, 3_000), 7).save(stream, "PNG", transparency=7)
    return stream.getvalue()


SOUNDS = {
    **{f"{kind.lower()}.{kind.lower()}": (kind,) for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "W64")},
    "float.wav": ("WAV", "FLOAT"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "opus.opus": ("OGG", "OPUS", 24_000),
}
PICTURES = {
    **{f"{kind.lower()}.{kind.lower()}": (kind,) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")},
    "rgba.png": ("PNG", "RGBA"),
    "palette.png": ("PNG", "P"),
    "16 bits.png": ("PNG", "I;16"),
    "float.tiff": ("TIFF", "F"),
    "cmyk.jpeg": ("JPEG", "CMYK"),
}
SEEDS = {
    **{name: encoded_sound(*arguments) for name, arguments in SOUNDS.items()},
    **{name: encoded_picture(*arguments) for name, arguments in PICTURES.items()},
    "large.png": large_picture(),
    "text.txt": "Grüße, ein paar Wörter.".encode(),
    "metadata.csv": b"file_name,label,source\na/0.txt,x,one\na/1.txt,y,two\n",
}


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


def mutations(number: int) -> Iterator[tuple[str, bytes]]:
    """(name, content): the number of the mutation and the name of its seed, from which it can be made again."""
    names = list(SEEDS)
    for count in range(number):
        seed = names[count % len(names)]
        yield f"{count}/{seed}", mutated(SEEDS[seed], np.random.default_rng(count))


def reading_path(folder: Path) -> Reader:
    """
    Returns what reads a file as what its name says it is. It passes over documented errors that name the file, but not
    where the file is intact. Sounds and pictures are given as paths and as contents in turn.
    """
    import torch

    from modeling_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor
    from modeling_msmaml.inputs.kinds import modality_of_file
    from modeling_msmaml.inputs.labelled_files import labelled_files
    from modeling_msmaml.inputs.notes import UnreadableInput
    from modeling_msmaml.inputs.read_text import read_text

    torch.set_num_threads(1)
    (folder / "a").mkdir(exist_ok=True)
    for name in ("a/0.txt", "a/1.txt"):
        (folder / name).write_text("some words")
    rows = {
        "audio": MSMAMLFeatureExtractor().row,
        "image": MSMAMLImageProcessor().row,
        "text": read_text,
        None: lambda path: labelled_files(folder, "text"),
    }

    def read(name: str, content: bytes) -> None:
        number, _, seed = name.rpartition("/")
        modality, path = modality_of_file(seed), folder / seed
        path.write_bytes(content)
        as_content = modality in ("audio", "image") and number != INTACT and int(number) // len(SEEDS) % 2
        documented = (UnreadableInput,) if modality is not None else (ValueError, FileNotFoundError)
        try:
            rows[modality](content if as_content else path)
        except documented as error:
            if number == INTACT:
                raise
            if not as_content and (str(folder) if modality is None else seed) not in str(error):
                raise AssertionError(f"the error does not name the file: {error}") from error
        finally:
            path.unlink()

    return read


def test_damaged_files(tmp_path):
    files = [*((f"{INTACT}/{seed}", content) for seed, content in SEEDS.items()), *mutations(MUTATIONS)]
    readings = read_all(reading_path, files)
    print(report(readings))
    found = {reading.name for reading in readings if reading.finding}
    for name, content in files:
        if name in found:
            (tmp_path / name.replace("/", "_")).write_bytes(content)
    assert len(SEEDS) >= 20 and len(readings) == len(SEEDS) + MUTATIONS
    assert not found, f"{report(readings)}\nThe files are in {tmp_path}"


# Whether it would be noticed


def misbehaving(folder: Path) -> Reader:
    """Does what the name of a file says."""

    def read(name: str, content: bytes) -> None:
        match name:
            case "hangs":
                time.sleep(60)
            case "takes memory":
                bytearray(b"1" * 100_000_000)
            case "takes memory for a moment":
                bytearray(b"1" * 20_000_000)
            case "raises":
                raise KeyError("what no one documents")
            case "crashes":
                os.abort()

    return read


def test_what_goes_wrong_is_stopped_and_named():
    names = ("fine", "hangs", "takes memory for a moment", "takes memory", "raises", "crashes", "is fine too")
    readings = read_all(misbehaving, [(name, b"") for name in names], seconds=2, gigabytes=0.1)
    assert [reading.name for reading in readings] == list(names), "every file is tried, whatever the one before did"
    findings = {reading.name: reading.finding for reading in readings if reading.finding}
    assert list(findings) == ["hangs", "takes memory", "raises", "crashes"]
    assert "no end after 2 s" in findings["hangs"] and "more than 0.1 GB" in findings["takes memory"]
    assert "KeyError" in findings["raises"] and "code -6" in findings["crashes"]
    worst: list[Reading] = sorted(readings, key=lambda reading: reading.gigabytes)
    assert worst[-1].name == "takes memory" and worst[-1].gigabytes == pytest.approx(0.19, abs=0.04)
    shown = report(readings)
    assert "4 findings in 7 files" in shown and shown.index("hangs: 2.") < shown.index("largest")

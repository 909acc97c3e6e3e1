"""Large pictures are read box by box, in little memory."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from modeling_msmaml.inputs import image_modes, read_image
from modeling_msmaml.inputs.notes import UnreadableInput

from .pictures import COLOURS, SHOWN, SIDE, row_of, saved


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_that_is_read_box_by_box_gives_about_the_same_row(name, monkeypatch):
    content, _ = SHOWN[name]
    expected = row_of(content, 2)
    monkeypatch.setattr(read_image, "_WHOLE_PIXELS", 0)
    monkeypatch.setattr(read_image, "_REDUCED_SIDE", 2)
    monkeypatch.setattr(image_modes, "_BOX_SIDE", 7)
    assert np.abs(row_of(content, 2) - expected).max() <= 12


@pytest.mark.parametrize("mode", ["RGBA", "L", "I;16", "F", "CMYK"])
def test_no_large_picture_is_converted_at_once(mode, monkeypatch):
    sizes, convert = [], Image.Image.convert

    def noting(image, *arguments, **options):
        sizes.append(image.width * image.height)
        return convert(image, *arguments, **options)

    monkeypatch.setattr(Image.Image, "convert", noting)
    row_of(Image.new(mode, (2_500, 2_000)))
    assert len(sizes) >= 6 and max(sizes) <= 2**20


@pytest.mark.parametrize(
    ("kind", "options"), [("WEBP", {}), ("JPEG", {"progressive": True}), ("TIFF", {"compression": "tiff_lzw"})]
)
def test_decoders_that_hold_copies_have_a_limit_of_their_own(kind, options, monkeypatch):
    content = saved(COLOURS, kind, **options)
    row_of(content)
    monkeypatch.setattr(read_image, "MOST_BYTES", 9 * SIDE * SIDE)
    row_of(saved(COLOURS))
    with pytest.raises(UnreadableInput, match=f"24 x 24 pixels of {kind} takes .* save it as PNG"):
        row_of(content)


MEASURED = """
import io, sys, numpy, PIL.Image
from modeling_msmaml.inputs.read_image import read_image
def status(key):
    return int(next(line for line in open("/proc/self/status") if line.startswith(key)).split()[1]) / 2**20
mode, door = sys.argv[1:]
image = PIL.Image.new(mode, (8_000, 8_000))
if door == "bytes":
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    image = stream.getvalue()
read_image(numpy.zeros((9, 9), numpy.uint8), 32)
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = status("VmRSS")
read_image(image, 32)
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize(("mode", "door"), [("RGBA", "bytes"), ("I;16", "bytes"), ("L", "PIL"), ("F", "PIL")])
def test_the_largest_pictures_take_less_than_half_a_gigabyte(mode, door):
    done = subprocess.run([sys.executable, "-c", MEASURED, mode, door], capture_output=True, text=True, check=True)
    assert float(done.stdout) < (0.5 if door == "bytes" else 0.1)

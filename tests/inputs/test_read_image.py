"""Pictures of every kind, through every door: the right row, or an error that names the picture."""

import io
import os
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from modeling_msmaml import MSMAMLImageProcessor
from modeling_msmaml.inputs import read_image
from modeling_msmaml.inputs.notes import Notes, UnreadableInput

from .pictures import BLACK_ON_WHITE, COLOURS, GREY, SHOWN, SIDE, WHITE, half_transparent, oriented, png, row_of, saved

STATIC = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
NOISE = saved(STATIC, "JPEG")
# Name -> content of a file, and what the error says.
REFUSED = {
    "cut JPEG": (NOISE[: len(NOISE) // 2], "truncated"),
    "cut PNG": (saved(STATIC)[:-900], "truncated|broken"),
    "damaged chunk": (b"I\0AT".join(saved(STATIC, compress_level=0).rsplit(b"IDAT", 1)), "broken PNG"),
    "too many pixels": (png(8, 0, 9_000, b"", height=9_000), "9000 x 9000 pixels, more than 64 million"),
    "negative": (saved(np.full((4, 4), -1, np.int32), "TIFF"), "from 0 to 2147483647, not -1 to -1"),
    "not a number": (saved(np.array([[0, np.nan]], np.float32), "TIFF"), "not nan to nan"),
    "infinite": (saved(np.array([[0, np.inf]], np.float32), "TIFF"), "not 0.0 to inf"),
    "floats about zero": (saved(np.array([[-1, 1]], np.float32), "TIFF"), "shift and scale"),
}
DOORS = {
    "file": lambda path: path,
    "string": str,
    "bytes": lambda path: path.read_bytes(),
    "PIL": Image.open,
    "stored by datasets": lambda path: {"bytes": path.read_bytes(), "path": path.name},
    "named by datasets": lambda path: {"bytes": None, "path": str(path)},
}


def noted(image) -> str:
    """What is noted of a picture; empty where there is nothing to note."""
    notes = Notes()
    row_of(image, notes=notes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        notes.warn()
    return "\n".join(str(warning.message) for warning in caught)


@pytest.fixture
def written(tmp_path):
    def write(content: bytes):
        (tmp_path / "strange.png").write_bytes(content)
        return tmp_path / "strange.png"

    return write


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_picture_shows(name, written):
    content, pixels = SHOWN[name]
    tolerance = 4 if content[:2] == b"\xff\xd8" else 1  # JPEG
    for door, hand_in in DOORS.items():
        row = row_of(hand_in(written(content)))
        assert np.abs(row - row_of(pixels)).max() <= tolerance, door


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, written):
    content, message = REFUSED[name]
    for door, hand_in in DOORS.items():
        with pytest.raises(UnreadableInput, match=message) as caught:
            row_of(hand_in(written(content)))
        assert ("strange.png" in str(caught.value)) != (door == "bytes"), door


def test_errors_show_no_objects_and_name_what_is_no_picture(tmp_path):
    for source, message in (
        (b"", "in 0 bytes: it is of no kind"),
        ({"bytes": b"no", "path": "a.png"}, "in a.png: it is of no kind"),
        (bytearray(b"no"), "in 2 bytes"),
        (tmp_path, f"{tmp_path} is a folder, a pipe"),
        (None, "not NoneType"),
        (object(), "not object"),
    ):
        with pytest.raises(UnreadableInput, match=message) as caught:
            row_of(source)
        assert "0x" not in str(caught.value)


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UnreadableInput, match=r"pipe\.png is a folder, a pipe or a device"):
        row_of(tmp_path / "pipe.png")
    assert not read_image.is_picture(tmp_path / "pipe.png")


# Texts in PNG files


def zipped_texts() -> dict:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "x" * 3_000_000, zip=True)
    info.add_itxt("prompt", "x" * 3_000_000, zip=True)
    return {"pnginfo": info}


def many_texts() -> dict:
    info = PngImagePlugin.PngInfo()
    for number in range(70):
        info.add_text(f"part {number}", "x" * 1_000_000, zip=True)
    return {"pnginfo": info}


@pytest.mark.parametrize("extra", [zipped_texts, many_texts, lambda: {"icc_profile": bytes(3_000_000)}])
@pytest.mark.filterwarnings("error")
def test_large_texts_in_a_png_do_not_count(extra, written):
    stream, options = io.BytesIO(), extra()
    options.setdefault("pnginfo", PngImagePlugin.PngInfo()).add_itxt(
        "XML:com.adobe.xmp", '<x:xmpmeta><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    )
    Image.fromarray(COLOURS).save(stream, "PNG", **options)
    content = stream.getvalue()
    for source in (content, written(content), {"bytes": content, "path": "a.png"}):
        assert np.array_equal(row_of(source), row_of(COLOURS[::-1, ::-1]))
    assert read_image.is_picture(content)
    with pytest.raises(UnreadableInput, match="cannot decode the image in .*bytes"):
        row_of(content[:-40])


# PIL images


def test_pil_images_that_cannot_be_converted(written):
    closed = Image.open(written(saved(COLOURS)))
    closed.close()
    verified = Image.open(written(saved(COLOURS)))
    verified.verify()
    for image, message in (
        (closed, "cannot read .*strange.png"),
        (verified, "cannot read .*strange.png"),
        (Image.new("RGB", (0, 5)), "cannot read a PIL image: it has 0 x 5 pixels"),
        (Image.new("L", (5, 0)), "cannot read a PIL image: it has 5 x 0 pixels"),
        (Image.new("1", (8_001, 8_000)), "8001 x 8000 pixels, more than 64 million"),
    ):
        with pytest.raises(UnreadableInput, match=message):
            row_of(image)


@pytest.mark.parametrize("mode", ["La", "LA", "PA", "RGBa", "RGBA"])
def test_pil_images_with_transparency(mode):
    image = half_transparent("LA").convert(mode) if mode == "La" else half_transparent(mode)
    assert np.array_equal(row_of(image), row_of(BLACK_ON_WHITE))


@pytest.mark.parametrize("mode", ["I", "F", "I;16", "I;16L", "I;16B"])
def test_pil_images_of_more_than_8_bits(mode):
    dtype = {"I": np.int32, "F": np.float32, "I;16B": ">u2"}.get(mode, "<u2")
    image = Image.frombytes(mode, (SIDE, SIDE), (GREY * 257.0).astype(dtype).tobytes())
    assert np.abs(row_of(image) - row_of(GREY)).max() <= 1


def test_a_palette_may_have_an_alpha_for_each_colour():
    image = Image.fromarray(np.tile(np.arange(2, dtype=np.uint8), (SIDE, SIDE // 2)))
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.info["transparency"] = b"\xff\x00"
    row = row_of(image)
    assert (row[..., ::2] == 0).all() and (row[..., 1::2] == 255).all()


def test_an_image_that_is_handed_in_is_left_as_it_was():
    image = Image.open(io.BytesIO(oriented("PNG", 6)))
    image.info["transparency"] = (1, 2, 3)
    before = image.size, image.mode, dict(image.info), image.getexif().get(274)
    row_of(image)
    assert (image.size, image.mode, image.info, image.getexif().get(274)) == before


# Arrays


@pytest.mark.parametrize(
    ("pixels", "same"),
    [
        (GREY.astype(">u2") * 257, GREY),
        (np.round(GREY / 255 * 4095).astype(np.uint16), GREY),
        (GREY.astype(">u2"), GREY),
        ((GREY / 255).astype(">f4"), GREY),
        ((GREY / 255).astype(np.float16), GREY),
        (GREY > 99, (GREY > 99).astype(np.uint8) * 255),
        (GREY[None], GREY),
        (GREY[..., None], GREY),
        (COLOURS.transpose(2, 0, 1), COLOURS),
        (np.asarray(half_transparent("RGBA")), BLACK_ON_WHITE),
        (np.asarray(half_transparent("RGBA")).transpose(2, 0, 1), BLACK_ON_WHITE),
        (np.asarray(half_transparent("RGBA")).astype(np.uint16) * 257, BLACK_ON_WHITE),
        (np.ma.masked_array(GREY, mask=False), GREY),
        (torch.from_numpy(COLOURS).permute(2, 0, 1), COLOURS),
        (torch.from_numpy(BLACK_ON_WHITE / 255).bfloat16(), BLACK_ON_WHITE),
        (torch.conj(torch.from_numpy(GREY / -255) * 1j).imag, GREY),
        ((GREY / 255).tolist(), GREY),
    ],
)
def test_arrays_that_are_read(pixels, same):
    assert np.abs(row_of(pixels) - row_of(same)).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.ma.masked_equal(GREY, 0), "masked: fill them"),
        ([np.ma.masked_equal(GREY, 0)] * 3, "masked: fill them"),
        (torch.zeros(9, 9).to_sparse(), "float32 tensor .torch.sparse_coo, cpu.: give a dense"),
        (torch.zeros(9, 9, device="meta"), "meta.: give a dense"),
        (torch.zeros(9, 9, dtype=torch.cfloat).conj(), "complex64"),
        (torch.quantize_per_tensor(torch.zeros(9, 9), 0.1, 0, torch.quint8), "quint8 tensor"),
        (torch.zeros(9, 9, dtype=torch.float8_e4m3fn), "float8_e4m3fn tensor"),
        (torch.nested.nested_tensor([torch.zeros(9, 9)]), "give a dense"),
        ([[1, 2], [3]], "from a list: give a dense array of one shape"),
        ([[None, 1]], "array of numbers, not list"),
        (np.zeros((3, 9, 3), np.uint8), r"\(3, 9, 3\) may be"),
        (np.zeros((3, 9, 4), np.uint8), r"\(3, 9, 4\) may be"),
        (np.zeros((1, 9, 1), np.uint8), r"\(1, 9, 1\) may be"),
        (np.zeros((9, 9, 2), np.uint8), r"not \(9, 9, 2\)"),
        (np.zeros((9, 9, 5), np.uint8), r"not \(9, 9, 5\)"),
        (np.zeros((2, 3, 9, 9), np.uint8), r"not \(2, 3, 9, 9\)"),
        (np.zeros((0, 9), np.uint8), r"not \(0, 9\)"),
        (np.zeros((3, 0, 9), np.uint8), r"not \(3, 0, 9\)"),
        (np.zeros(9, np.uint8), r"not \(9,\)"),
        (np.broadcast_to(np.uint8(0), (8_001, 8_000)), "more than 64 million"),
        (GREY.astype(np.int64), r"int64.*astype\('uint8'\)"),
        (GREY.astype(np.float32), "divide them by"),
        (np.linspace(-1, 1, 81).reshape(9, 9), r"in \[-1\.0, 1\.0\].*add 0.5"),
        (np.full((9, 9), np.nan), "not finite"),
        (np.full((9, 9), np.inf), "not finite"),
    ],
)
def test_arrays_that_are_refused(pixels, message):
    with pytest.raises(UnreadableInput, match=message):
        row_of(pixels)
    with pytest.raises(UnreadableInput, match=f"(?s)own name: .*{message}"):
        read_image.read_image(pixels, SIDE, "own name")


# What is noted


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts_and_it_is_noted(kind, written):
    frames = [Image.fromarray(pixels) for pixels in (COLOURS, COLOURS[::-1], WHITE)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    path = written(saved(frames[0], kind, save_all=True, append_images=frames[1:], **lossless))
    for hand_in in DOORS.values():
        assert "the first frame of a picture counts" in (said := noted(hand_in(path)))
        assert "(3 frames)" in said
        assert np.abs(row_of(hand_in(path)) - row_of(COLOURS)).max() <= 1
    image = Image.open(path)
    image.seek(1)
    assert noted(image) == "" and np.abs(row_of(image) - row_of(COLOURS[::-1])).max() <= 1


def test_a_photograph_with_a_preview_has_one_frame(written):
    photograph = Image.fromarray(COLOURS)
    path = written(saved(photograph, "MPO", save_all=True, append_images=[photograph.resize((9, 9))]))
    assert Image.open(path).n_frames == 2 and noted(path) == ""


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (GREY, None),
        (GREY.astype(np.uint16) * 257, None),
        (np.zeros_like(GREY), None),
        (np.zeros((SIDE, SIDE), np.uint16), None),
        (GREY.astype(np.uint16), r"no value above 255.*\(up to 255\)"),
        (GREY.astype(np.uint16) * 16, r"no value above 4,095.*\(up to 4080\)"),
        ((GREY > 99).astype(np.uint8), r"almost black.*\(up to 1\)"),
        (np.eye(SIDE * 8, dtype=np.uint8), r"almost black.*\(up to 1\)"),
    ],
)
def test_guesses_and_dark_pictures_are_noted(pixels, message, written):
    for source, name in ((pixels, "an array"), (written(saved(pixels)), "strange.png"), (saved(pixels), "bytes")):
        said = noted(source)
        assert name in said and re.search(message, said) if message else said == "", name


def test_the_processor_names_the_positions():
    processor, dark = MSMAMLImageProcessor(SIDE), np.ones_like(GREY)
    with pytest.warns(UserWarning, match=r"almost black.*: images\[1\]: an array \(up to 1\)$"):
        rows = processor([GREY, dark])["pixel_values"]
    with pytest.raises(UnreadableInput, match=r"^images\[1\]: some pixels are masked"):
        processor([GREY, np.ma.masked_equal(GREY, 0)])
    batch = torch.from_numpy(np.stack([COLOURS, COLOURS]))
    assert processor(batch)["pixel_values"].shape == (2, *rows.shape[1:])

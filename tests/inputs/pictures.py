"""Small pictures of many kinds, each with what it shows."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from modeling_msmaml.inputs import read_image

SIDE = 24
GREY = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))
COLOURS = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(6, 1)
WHITE = np.full_like(COLOURS, 255)


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **options)
    return stream.getvalue()


def png(bits: int, colour_type: int, width: int, rows: bytes, transparent: tuple[int, ...] = (), height=1) -> bytes:
    """A PNG as Pillow does not write it: fewer or more bits, with a colour that is transparent."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = {b"IHDR": header, b"tRNS": struct.pack(f">{len(transparent)}H", *transparent)}
    chunks |= {b"IDAT": zlib.compress(rows), b"IEND": b""}
    framed = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
        if content or kind != b"tRNS"
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def white_is_zero(values: np.ndarray) -> bytes:
    tag, content = struct.pack("<HHII", 262, 3, 1, 1), saved(values, "TIFF")
    assert content.count(tag) == 1
    return content.replace(tag, struct.pack("<HHII", 262, 3, 1, 0))


def oriented(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return saved(COLOURS, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))


def half_transparent(mode: str) -> Image.Image:
    image = Image.fromarray(np.dstack([COLOURS, np.zeros_like(GREY)]))
    image.paste((0, 0, 0, 255), (0, 0, SIDE, SIDE // 2))
    return image.convert(mode)


BLACK_ON_WHITE = np.concatenate([WHITE[: SIDE // 2] * 0, WHITE[: SIDE // 2]])
FOUR_GREYS = b"\x00" + bytes([0b00_01_10_11] * 6)  # a row of 24 pixels of 2 bits
WIDE = np.zeros((1, SIDE), np.uint8) + np.tile([0, 85, 170, 255], 6).astype(np.uint8)
# Name -> content of a file, and the pixels that it shows.
SHOWN = {
    "8 bits in 16": (saved(GREY.astype(np.uint16)), GREY),
    "12 bits in 16": (saved(np.round(GREY / 255 * 4095).astype(np.uint16)), GREY),
    "16 bits": (saved(GREY.astype(np.uint16) * 257), GREY),
    "12 bits in 32": (saved(np.round(GREY / 255 * 4095).astype(np.int32), "TIFF"), GREY),
    "31 bits": (saved(np.round(GREY / 255 * (2**31 - 1)).astype(np.int32), "TIFF"), GREY),
    "floats to 255": (saved(GREY.astype(np.float32), "TIFF"), GREY),
    "big-endian": (saved(Image.frombytes("I;16B", (SIDE, SIDE), (GREY * 257.0).astype(">u2").tobytes()), "TIFF"), GREY),
    "white is zero, 16 bits": (white_is_zero((255 - GREY).astype(np.uint16) * 257), GREY),
    "white is zero, floats": (white_is_zero((1 - GREY / 255).astype(np.float32)), GREY),
    "black is transparent, 16 bits": (
        png(16, 0, SIDE, b"\0" + (WIDE * 257.0).astype(">u2").tobytes(), (0,)),
        np.where(WIDE == 0, 255, WIDE).astype(np.uint8),
    ),
    "grey is transparent, 2 bits": (
        png(2, 0, SIDE, FOUR_GREYS, (1,)),
        np.where(WIDE == 85, 255, WIDE).astype(np.uint8),
    ),
    "colour is transparent, 16 bits": (
        png(16, 2, SIDE, b"\0" + (WIDE.repeat(3) * 257.0).astype(">u2").tobytes(), (85 * 257,) * 3),
        np.where(WIDE == 85, 255, WIDE).astype(np.uint8),
    ),
    "grey with alpha": (saved(half_transparent("LA")), BLACK_ON_WHITE),
    "transparent WebP": (saved(half_transparent("RGBA"), "WEBP", lossless=True), BLACK_ON_WHITE),
    "transparent GIF": (saved(half_transparent("RGBA"), "GIF"), BLACK_ON_WHITE),
    "1 bit": (saved(Image.fromarray(GREY > 127)), (GREY > 127).astype(np.uint8) * 255),
    "CMYK of Adobe": (saved(Image.fromarray(COLOURS).convert("CMYK"), "JPEG", quality=100, subsampling=0), COLOURS),
    "CMYK": (saved(Image.fromarray(COLOURS).convert("CMYK"), "TIFF"), COLOURS),
    "LAB": (saved(Image.new("LAB", (SIDE, SIDE), (255, 128, 128)), "TIFF"), WHITE),
    "JPEG": (saved(COLOURS, "JPEG", quality=100, subsampling=0), COLOURS),
    "upside down, PNG": (oriented("PNG", 3), COLOURS[::-1, ::-1]),
    "turned, TIFF": (oriented("TIFF", 6), np.rot90(COLOURS, 3)),
    "turned, WebP": (oriented("WEBP", 8), np.rot90(COLOURS)),
    "mirrored, PNG": (oriented("PNG", 5), COLOURS.transpose(1, 0, 2)),
}


def row_of(image, size=SIDE, notes=None) -> np.ndarray:
    return read_image.read_image(image, size, notes=notes).astype(int)

"""PNG files whose texts are larger than Pillow takes, as those of programs that store how they made a picture."""

import io
import os

MOST_BYTES = 200_000_000  # of a file that is copied without its texts
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LIMITS = ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY")  # of Pillow, which its errors name
_DROPPED = (b"tEXt", b"zTXt", b"iCCP")  # texts, and the profile of colours, which does not count for a row
_XMP = b"XML:com.adobe.xmp\0\0"  # not compressed; it may say which side of a picture is up
_MOST_XMP = 1_000_000  # bytes


def is_about_texts(error: Exception) -> bool:
    """Whether Pillow refuses a picture over the size of its texts."""
    return any(limit in str(error) for limit in _LIMITS)


def without_texts(source: str | os.PathLike | bytes) -> bytes | None:
    """The content of a PNG file without its texts; `None` for another file, a large one, or one without texts."""
    if not isinstance(source, bytes):
        if os.path.getsize(source) > MOST_BYTES:
            return None
        with open(source, "rb") as file:
            source = file.read()
    if not source.startswith(_SIGNATURE):
        return None
    kept, position = io.BytesIO(), len(_SIGNATURE)
    kept.write(_SIGNATURE)
    while position < len(source):
        # A chunk is the length of its data in 4 bytes, its kind in 4, the data, and a check sum of 4.
        kind, data = source[position + 4 : position + 8], position + 8
        end = data + int.from_bytes(source[position : position + 4], "big") + 4
        is_xmp = source.startswith(_XMP, data) and end - data <= _MOST_XMP
        if kind not in _DROPPED and (kind != b"iTXt" or is_xmp):
            kept.write(memoryview(source)[position:end])
        position = end
    return kept.getvalue() if kept.tell() < len(source) else None

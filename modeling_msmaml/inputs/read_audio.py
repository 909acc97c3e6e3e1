"""Sounds: a file, its content, a waveform or what `datasets` makes of one -> one raw row."""

import io
import math
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import soundfile
from jaxtyping import Float32, Int16

from .kinds import listed_suffixes, name_of, stored_file
from .notes import Notes, UnreadableInput
from .resampling import checked_rate, resampled
from .waveforms import (
    LARGEST_FLOAT,
    MOST_CHANNELS,
    VALUES_PER_BLOCK,
    Mixer,
    array_of,
    beyond,
    scale_of,
    scaled_blocks,
    used_samples,
)

_INT16_MAX = 32767
_EDGE = 0.1  # seconds that are read beyond the end of a row, so that it is resampled like the rest
_LITTLE_BEYOND = 1.5  # where lossy codecs may go; what is larger was not meant to be clipped
_UNKNOWN_FORMAT = 1  # SF_ERR_UNRECOGNISED_FORMAT of libsndfile
_UNKNOWN_FRAMES = 2**40  # which no file has; libsndfile says so of a stream whose header does not state its length
_UNKNOWN_BYTES = 0x7FFF0000  # that programs write into the header of what they stream
# What libsndfile logs of the bytes that a header states and a file has: "data : 32000 (should be 7967)".
_STATED_BYTES = re.compile(r":\s*(\d+) \(should be (\d+)\)")
_LARGEST_SCAN = 2**26  # bytes of an Ogg file that are searched for further streams


class _File(soundfile.SoundFile):
    """A sound file that is read from its beginning to its end. soundfile seeks after it has read, which fails in a FLAC
    stream of unknown length."""

    def seekable(self) -> bool:
        return self.frames < _UNKNOWN_FRAMES and super().seekable()

    def stated_share(self) -> float:
        """How many times as many bytes of sound the header states as there are; 1 where it is right or unknown."""
        pairs = [(int(stated), int(found)) for stated, found in _STATED_BYTES.findall(self.extra_info)]
        stated, found = pairs[-1] if pairs else (0, 0)  # the last is that of the samples
        return stated / found if 0 < found < stated < _UNKNOWN_BYTES else 1.0


class _Length(NamedTuple):
    """Of a file: seconds that there are, infinite where no one can say; seconds that its header states but that are
    missing; and whether another stream follows that libsndfile does not read."""

    seconds: float
    missing: float = 0.0
    has_more_streams: bool = False


def read_audio(
    sound: Any,
    target_rate: int,
    num_samples: int,
    sampling_rate: int | None = None,
    name: str | None = None,
    notes: Notes | None = None,
    padded: bool = True,
) -> Int16[np.ndarray, " samples"]:
    """The raw row of one sound. Only the part of the sound that the row has room for is decoded and checked.

    Args:
        sound: a path, the content of a file, a waveform (see `encode_waveform`), a dict of `datasets` (`array` and
            `sampling_rate`, or `bytes`, or `path`), or a sound that `datasets` decodes when it is asked.
        target_rate: sampling rate of the row, Hz.
        num_samples: length of the row, at most.
        sampling_rate: of a waveform, Hz; everything else knows its own.
        name: of the sound, for messages; by default its path.
        notes: where it is noted that a sound is longer than its row, silent or clipped, and what was guessed of it.
        padded: whether zeros are appended to a shorter sound, so that all rows have `num_samples`.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableInput: it cannot be decoded, a waveform comes without its sampling rate, or see `encode_waveform`.
    """
    notes, stated = notes or Notes(), 0.0
    if isinstance(sound, dict):
        if sound.get("array") is not None:
            own_rate = sound.get("sampling_rate")
            sound, sampling_rate = sound["array"], sampling_rate if own_rate is None else own_rate
        else:
            path = sound.get("path")
            name = name or (str(path) if path else None)
            sound = stored_file(sound)
            if not isinstance(sound, (str, os.PathLike, bytes, bytearray, memoryview)):
                raise UnreadableInput(f"a dict has a path or the content of a file, not a {type(sound).__name__}")
    elif hasattr(sound, "get_all_samples"):
        name = name or "a sound of `datasets`"
        sound, sampling_rate, stated = _decoded_by_datasets(sound, name, num_samples / target_rate)
    if isinstance(sound, (bytearray, memoryview)):
        sound = bytes(sound)
    if isinstance(sound, (str, os.PathLike, bytes)):
        name = name or name_of(sound)
        mixer = Mixer()
        parts, rate, length = _decode(sound, name, num_samples / target_rate, mixer)
        if (channel := mixer.louder_channel()) is not None:
            parts = _decode(sound, name, num_samples / target_rate, lambda block: block[channel].copy())[0]
            _note_phases(channel, name, notes)
        row = _row(parts, rate, target_rate, num_samples, name, notes, padded)
    elif sampling_rate is None:
        raise UnreadableInput(
            "sampling_rate is needed for waveforms, as an argument or as 'sampling_rate' beside 'array'; the model "
            f"works at {target_rate} Hz and resamples"
        )
    else:
        name = name or "a waveform"
        waveform = array_of(sound, name)
        row = encode_waveform(waveform, sampling_rate, target_rate, num_samples, name, notes, padded)
        length = _Length(max(stated, max(waveform.shape) / checked_rate(sampling_rate)))
    _note_length(length, num_samples, target_rate, name, notes)
    if not row.any():
        notes.add("the model hears nothing but silence", name)
    return row


def _decoded_by_datasets(sound: Any, name: str, seconds: float) -> tuple[Any, int, float]:
    """Waveform, sampling rate and stated seconds of a decoder of torchcodec, which decodes no more than is used."""
    stated = getattr(getattr(sound, "metadata", None), "duration_seconds_from_header", None) or 0.0
    try:
        is_long = stated > seconds + _EDGE and hasattr(sound, "get_samples_played_in_range")
        samples = sound.get_samples_played_in_range(0.0, seconds + _EDGE) if is_long else sound.get_all_samples()
    except Exception as error:  # of FFmpeg, in many ways
        raise UnreadableInput(f"cannot decode the sound in {name}: {error}") from error
    return samples.data, samples.sample_rate, stated


def _note_phases(channel: int, name: str, notes: Notes) -> None:
    notes.add(
        "channels of opposite phase cancel each other in the mean; the loudest channel is taken",
        f"{name} (channel {channel + 1})",
    )


def _note_length(length: _Length, num_samples: int, target_rate: int, name: str, notes: Notes) -> None:
    if length.seconds > (num_samples + 1) / target_rate:
        stated = f"{name} ({length.seconds:.1f} s)" if math.isfinite(length.seconds) else name
        read = num_samples / target_rate
        notes.add(f"the model reads the first {read:g} s of a sound; the rest does not count", stated)
    if length.missing > _EDGE:
        notes.add(
            "a sound file ends before the length that its header states",
            f"{name} ({length.seconds:.1f} of {length.seconds + length.missing:.1f} s)",
        )
    if length.has_more_streams:
        notes.add("of several streams in an Ogg file only the first is read", f"{name} ({length.seconds:.1f} s)")


def decode_audio(
    source: str | os.PathLike | bytes, name: str | None = None, seconds: float | None = None
) -> tuple[Float32[np.ndarray, "channels samples"], int]:
    """Decodes a sound file, of any kind that libsndfile reads (.wav, .flac, .ogg, .opus, .mp3, .aiff and others).

    Args:
        source: a path, or the content of a file.
        name: of the file, for errors; by default its path.
        seconds: how much of it is wanted; somewhat more is decoded, so that a resampled row has its edge right. By
            default all.

    Returns:
        The waveform in [-1, 1] and its sampling rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableInput: it cannot be decoded, or holds no samples; the message names the file.
    """
    blocks, sampling_rate, _ = _decode(source, name or name_of(source), seconds, lambda block: block)
    return _joined(blocks), sampling_rate


def _decode(
    source: str | os.PathLike | bytes, name: str, seconds: float | None, kept: Callable[[np.ndarray], np.ndarray]
) -> tuple[list[np.ndarray], int, _Length]:
    """What is kept of each block (channels, samples) of a file, the sampling rate, and the length."""
    if not isinstance(source, bytes) and not os.path.isfile(source):
        if os.path.exists(source):
            raise UnreadableInput(f"cannot decode the sound in {name}: it is a folder, a pipe or a device, not a file")
        raise FileNotFoundError(f"no sound file at {name}")
    try:
        with _File(_openable(source)) as file:
            rate, channels = checked_rate(file.samplerate), file.channels
            if channels > MOST_CHANNELS:
                raise ValueError(f"it has {channels} channels, more than {MOST_CHANNELS}")
            wanted = math.inf if seconds is None else math.ceil((seconds + _EDGE) * rate)
            blocks, length = [], 0
            while length < wanted:
                block = file.read(
                    int(min(VALUES_PER_BLOCK // channels, wanted - length)), dtype="float32", always_2d=True
                )
                if not len(block):
                    break
                blocks.append(kept(np.ascontiguousarray(block.T)))
                length += len(block)
            # The header's length is only a claim.
            stated = file.frames if length <= file.frames < _UNKNOWN_FRAMES else math.inf
            if stated == length:
                stated = length * file.stated_share()  # libsndfile corrects it by the size of the file
            ended, is_ogg = length < wanted, file.format == "OGG"
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip(" .") or "its content is damaged"
        if error.code == _UNKNOWN_FORMAT:
            reason += f"; convert it to one of these kinds: {listed_suffixes('audio')}"
        raise UnreadableInput(f"cannot decode the sound in {name}: {reason}") from error
    except Exception as error:  # a decoder fails in many ways
        raise UnreadableInput(f"cannot decode the sound in {name}: {error}") from error
    if not blocks:
        raise UnreadableInput(f"the sound in {name} has no samples")
    if not ended:
        return blocks, rate, _Length(stated / rate)
    missing = (stated - length) / rate if math.isfinite(stated) else 0.0
    return blocks, rate, _Length(length / rate, missing, is_ogg and _has_more_streams(source))


def _openable(source: str | os.PathLike | bytes) -> Any:
    """A sound as soundfile takes it, which refuses names that are not UTF-8, unless they are given as bytes."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return os.fsencode(source) if os.name == "posix" else source


def _has_more_streams(source: str | os.PathLike | bytes) -> bool:
    """Whether a stream begins in an Ogg file after the pages of another, as in files that were joined."""
    if isinstance(source, bytes):
        content = source[:_LARGEST_SCAN]
    else:
        with open(source, "rb") as file:
            content = file.read(_LARGEST_SCAN)
    later_page = content.find(b"OggS\0\0")
    return later_page >= 0 and content.find(b"OggS\0\2", later_page) >= 0


def is_sound(source: str | os.PathLike | bytes) -> bool:
    """Whether libsndfile can open a file, or its content, as a sound. A pipe may wait forever and is none."""
    if not isinstance(source, bytes) and not os.path.isfile(source):
        return False
    try:
        with soundfile.SoundFile(_openable(source)):
            return True
    except Exception:  # whatever it stumbles over, it is none
        return False


def encode_waveform(
    waveform: Any,
    sampling_rate: int,
    target_rate: int,
    num_samples: int,
    name: str = "a waveform",
    notes: Notes | None = None,
    padded: bool = True,
) -> Int16[np.ndarray, " samples"]:
    """The mean of the channels, resampled, exactly `num_samples` long (zeros are appended, or it is cut), as int16.

    Only the first samples, as many as the result needs, are converted and checked. Where the channels have opposite
    phases, so that they cancel each other, the loudest takes the place of the mean.

    Args:
        waveform: an array, tensor or list, (samples,), (channels, samples) or (samples, channels), told apart by their
            sizes. Floats in [-1, 1] (what is a little beyond is clipped) or on the scale of 8, 16 or 32 bits, which is
            noted; or int8, int16, int32, uint8 or uint16 on the scale of the type. int32 may hold 16 or 24 bits.
        sampling_rate: of the waveform, Hz.
        target_rate: of the result, Hz.
        num_samples: of the result.
        name: of the waveform, for messages.
        notes: where it is noted what was guessed or is odd.
        padded: whether zeros are appended; otherwise the result may be shorter.

    Raises:
        UnreadableInput: another shape, type or scale, an impossible rate, no samples, masked values, or values that
            are not finite.
    """
    notes, rate = notes or Notes(), checked_rate(sampling_rate)
    needed = num_samples if rate == target_rate else math.ceil((num_samples / target_rate + _EDGE) * rate)
    used = used_samples(array_of(waveform, name), needed, name)
    scale, mixer = scale_of(used, name, notes), Mixer()
    parts = [mixer(block) for block in scaled_blocks(used, scale)]
    if (channel := mixer.louder_channel()) is not None:
        parts = [block[0] for block in scaled_blocks(used[channel : channel + 1], scale)]
        _note_phases(channel, name, notes)
    return _row(parts, rate, target_rate, num_samples, name, notes, padded)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _row(
    parts: list[np.ndarray], rate: int, target_rate: int, num_samples: int, name: str, notes: Notes, padded: bool
) -> Int16[np.ndarray, " samples"]:
    """The row of the blocks of one channel."""
    mono = _joined(parts)
    mono = mono[:num_samples] if rate == target_rate else mono
    lowest, highest = float(mono.min()), float(mono.max())
    largest = float(np.maximum(-lowest, highest))  # not finite where a value is not
    if not math.isfinite(largest):
        raise UnreadableInput(f"{name} has values that are not finite")
    if largest > LARGEST_FLOAT:
        raise beyond(largest, name)
    if largest > _LITTLE_BEYOND:
        notes.add("samples beyond [-1, 1] are clipped", f"{name} ({largest:g})")
    if lowest == highest != 0:
        notes.add("a sound whose samples are all the same is silence", f"{name} ({lowest:g})")
    mono = resampled(mono, rate, target_rate)
    samples = np.round(np.clip(mono[:num_samples], -1.0, 1.0) * _INT16_MAX).astype(np.int16)
    return np.pad(samples, (0, num_samples - len(samples))) if padded else samples

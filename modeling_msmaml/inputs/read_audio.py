"""Sounds: a file, its content, a waveform or what `datasets` makes of one -> one raw row."""

import io
import math
import numbers
import os
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
from jaxtyping import Float32, Int16

from .kinds import as_array, name_of, stored_file
from .notes import Notes, UnreadableInput

_INT16_MAX = 32767
# Rates (Hz) of what is a sound: from telephone speech with room below to ultrasound.
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
# A resampling filter has as many taps as the reduced ratio of the rates is large: 22,254 Hz to 16 kHz would take
# gigabytes. The nearest ratio with a denominator of at most this is off by less than 0.002 %.
_LARGEST_DENOMINATOR = 1_000
_FILTER_ZEROS = 6  # zero crossings of torchaudio's filter on either side
_VALUES_PER_BLOCK = 2**20  # decoded at once
_MOST_CHANNELS = 64
_LARGEST_FLOAT = 8.0  # beyond clipping, so that the scale is not [-1, 1] but one of these
_SCALES = (2.0**7, 2.0**15, 2.0**31)


def read_audio(
    sound: Any,
    target_rate: int,
    num_samples: int,
    sampling_rate: int | None = None,
    name: str | None = None,
    notes: Notes | None = None,
) -> Int16[np.ndarray, " num_samples"]:
    """The raw row of one sound.

    Args:
        sound: a path, the content of a file, a waveform (see `encode_waveform`), a dict of `datasets` (`array` and
            `sampling_rate`, or `bytes`, or `path`), or a sound that `datasets` decodes when it is asked.
        target_rate: sampling rate of the row, Hz.
        num_samples: length of the row. A file is decoded no further than that.
        sampling_rate: of a waveform, Hz; everything else knows its own.
        name: of the sound, for messages; by default its path.
        notes: where it is noted that a sound is longer than its row, or silent.

    Raises:
        FileNotFoundError: there is no such file.
        UnreadableInput: it cannot be decoded, a waveform comes without its sampling rate, or see `encode_waveform`.
    """
    if isinstance(sound, dict):
        if sound.get("array") is not None:
            sampling_rate = sound.get("sampling_rate", sampling_rate)
            sound = sound["array"]
        else:
            sound = stored_file(sound)
    elif hasattr(sound, "get_all_samples"):
        samples = sound.get_all_samples()
        sound, sampling_rate = samples.data, samples.sample_rate
    is_file = isinstance(sound, (str, os.PathLike, bytes))
    name = name or (name_of(sound) if is_file else "a waveform")
    if is_file:
        waveform, sampling_rate, seconds = _decode(sound, name, num_samples / target_rate)
    elif sampling_rate is None:
        raise UnreadableInput(
            f"sampling_rate is needed for waveforms; the model works at {target_rate} Hz and resamples"
        )
    else:
        waveform = as_array(sound)
        seconds = max(waveform.shape, default=0) / _checked_rate(sampling_rate)
    if not is_file and np.issubdtype(waveform.dtype, np.floating) and waveform.size:
        waveform = _rescaled(waveform, name, notes)
    row = encode_waveform(waveform, sampling_rate, target_rate, num_samples)
    if notes is not None:
        if seconds > (num_samples + 1) / target_rate:
            read = num_samples / target_rate
            notes.add(
                f"the model reads the first {read:g} s of a sound; the rest does not count", _timed(name, seconds)
            )
        if not row.any():
            notes.add("the model hears nothing but silence", name)
    return row


def _rescaled(waveform: np.ndarray, name: str, notes: Notes | None) -> np.ndarray:
    """Floats in [-1, 1], of floats on the scale of 8, 16 or 32 bits."""
    largest = _largest(waveform)
    if not largest > _LARGEST_FLOAT or (scale := next((s for s in _SCALES if largest <= s), None)) is None:
        return waveform
    if notes is not None:
        notes.add(f"floats of a waveform are in [-1, 1]; larger ones are divided by {scale:g}", f"{name} ({largest:g})")
    return waveform / scale


def _timed(name: str, seconds: float) -> str:
    return f"{name} ({seconds:.1f} s)" if math.isfinite(seconds) else name


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
    waveform, sampling_rate, _ = _decode(source, name or name_of(source), seconds)
    return waveform, sampling_rate


def _decode(
    source: str | os.PathLike | bytes, name: str, seconds: float | None
) -> tuple[Float32[np.ndarray, "channels samples"], int, float]:
    """Waveform, sampling rate, and the length in seconds; infinite where there is more and no one can say how much."""
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"no sound file at {name}")
    try:
        with soundfile.SoundFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            rate, channels = _checked_rate(file.samplerate), file.channels
            if channels > _MOST_CHANNELS:
                raise ValueError(f"it has {channels} channels, more than {_MOST_CHANNELS}")
            wanted = math.inf if seconds is None else math.ceil((seconds + 0.1) * rate)
            blocks, length = [], 0
            while length < wanted:
                block = file.read(
                    int(min(_VALUES_PER_BLOCK // channels, wanted - length)), dtype="float32", always_2d=True
                )
                if not len(block):
                    break
                blocks.append(block)
                length += len(block)
            said = file.frames if length == wanted else length
            # The header's length is only a claim.
            total = said / rate if said >= length and said < 2**40 else math.inf
    except Exception as error:  # a decoder fails in many ways, of which libsndfile's own error is one
        raise UnreadableInput(f"cannot decode the sound in {name}: {error}") from error
    if not blocks:
        raise UnreadableInput(f"the sound in {name} has no samples")
    return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks)).T, rate, total


def is_sound(path: str | os.PathLike) -> bool:
    """Whether libsndfile can open a file as a sound."""
    try:
        with soundfile.SoundFile(path):
            return True
    except Exception:  # whatever it stumbles over, it is none
        return False


def encode_waveform(
    waveform: np.ndarray, sampling_rate: int, target_rate: int, num_samples: int
) -> Int16[np.ndarray, " num_samples"]:
    """The mean of the channels, resampled, exactly `num_samples` long (zeros are appended, or it is cut), as int16.

    Args:
        waveform: (samples,), (channels, samples) or (samples, channels), told apart by their sizes; floats in [-1, 1]
            (what is a little beyond is clipped) or int16.
        sampling_rate: of the waveform, Hz.
        target_rate: of the result, Hz.
        num_samples: of the result.

    Raises:
        UnreadableInput: another shape, type or scale, an impossible rate, no samples, or values that are not finite.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise UnreadableInput(f"a waveform has shape (samples,) or (channels, samples), not {waveform.shape}")
    if waveform.ndim == 2:
        waveform = _channels_first(waveform)
    if waveform.dtype == np.int16:
        waveform = waveform.astype(np.float32) / _INT16_MAX
    if not np.issubdtype(waveform.dtype, np.floating):
        raise UnreadableInput(
            f"a waveform is float in [-1, 1] or int16, not {waveform.dtype}: divide by the largest value of its scale, "
            "such as 2**31 for 32 bits"
        )
    needed = math.ceil((num_samples / target_rate + 0.1) * _checked_rate(sampling_rate))
    waveform = np.ascontiguousarray(waveform[..., :needed], dtype=np.float32)
    mono = torch.from_numpy(waveform).reshape(-1, waveform.shape[-1]).mean(0)
    # Of the mean, which is not finite where a channel is not.
    largest = _largest(mono.numpy())
    if not math.isfinite(largest):
        raise UnreadableInput("the waveform has values that are not finite")
    if largest > _LARGEST_FLOAT:
        raise UnreadableInput(
            f"the waveform reaches {largest:g}, but floats are in [-1, 1]: divide it by the largest value of its "
            "scale, such as 32768 for 16 bits, or give it as int16"
        )
    if sampling_rate != target_rate:
        mono = _resampler(int(sampling_rate), int(target_rate))(mono)
    samples = np.round(np.clip(mono.numpy()[:num_samples], -1.0, 1.0) * _INT16_MAX).astype(np.int16)
    return np.pad(samples, (0, num_samples - len(samples)))


def _largest(waveform: np.ndarray) -> float:
    """The largest magnitude, in two passes without a copy; not finite where a value is not."""
    return float(np.maximum(-waveform.min(), waveform.max()))


def _channels_first(waveform: np.ndarray) -> np.ndarray:
    """(channels, samples) of either order: there are few channels and many samples."""
    channels, samples = sorted(waveform.shape)
    if channels > _MOST_CHANNELS or channels == samples > 1:
        raise UnreadableInput(
            f"a waveform of shape {waveform.shape} may be (channels, samples) or (samples, channels): give one channel "
            "of shape (samples,)"
        )
    return waveform.T if waveform.shape[1] < waveform.shape[0] else waveform


def _checked_rate(sampling_rate: int) -> int:
    if not isinstance(sampling_rate, numbers.Real) or not LOWEST_RATE <= sampling_rate <= HIGHEST_RATE:
        raise UnreadableInput(
            f"sampling_rate={sampling_rate!r} is not possible; that of a sound is from {LOWEST_RATE:,} to "
            f"{HIGHEST_RATE:,} Hz"
        )
    return int(sampling_rate)


@lru_cache(maxsize=8)
def _resampler(sampling_rate: int, target_rate: int) -> torchaudio.transforms.Resample:
    ratio = Fraction(target_rate, sampling_rate).limit_denominator(_LARGEST_DENOMINATOR)
    return torchaudio.transforms.Resample(ratio.denominator, ratio.numerator, lowpass_filter_width=_FILTER_ZEROS)

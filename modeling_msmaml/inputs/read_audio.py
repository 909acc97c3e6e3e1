"""Reads a sound (a file, its content, a waveform, or an entry of `datasets`) as one raw row of int16 samples."""

import io
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
from jaxtyping import Float32, Int16

from .kinds import as_array, name_of, stored_file

_INT16_MAX = 32767


def read_audio(
    sound: Any, target_rate: int, num_samples: int, sampling_rate: int | None = None, name: str | None = None
) -> Int16[np.ndarray, " num_samples"]:
    """Reads one sound as a raw row.

    Args:
        sound: a path, the content of a file, a waveform (see `encode_waveform`), a dict of `datasets` (with `array` and
            `sampling_rate`, with `bytes`, or with `path`), or an audio decoder of `datasets`.
        target_rate: sampling rate of the row, Hz.
        num_samples: length of the row.
        sampling_rate: sampling rate of a waveform, Hz. Files, dicts and decoders have their own.
        name: name of the sound in error messages; by default its path.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the sound cannot be decoded, a waveform is given without its sampling rate, or `encode_waveform`
            refuses the waveform.
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
    if isinstance(sound, (str, os.PathLike, bytes)):
        waveform, sampling_rate = decode_audio(sound, name)
    elif sampling_rate is None:
        raise ValueError(f"sampling_rate is needed for waveforms; the model works at {target_rate} Hz and resamples")
    else:
        waveform = as_array(sound)
    return encode_waveform(waveform, sampling_rate, target_rate, num_samples)


def decode_audio(
    source: str | os.PathLike | bytes, name: str | None = None
) -> tuple[Float32[np.ndarray, "channels samples"], int]:
    """Decodes a sound file (.wav, .flac, .ogg or .mp3).

    Args:
        source: path or content of the file.
        name: name of the file in error messages; by default its path.

    Returns:
        The waveform, in [-1, 1], and its sampling rate, Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be decoded or has no samples; the message names the file.
    """
    name = name or name_of(source)
    if not isinstance(source, bytes) and not Path(source).is_file():
        raise FileNotFoundError(f"no sound file at {name}")
    try:
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        waveform, sampling_rate = soundfile.read(stream, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"cannot decode the sound in {name}: {error}") from error
    if not len(waveform):
        raise ValueError(f"the sound in {name} has no samples")
    return waveform.T, sampling_rate


def encode_waveform(
    waveform: np.ndarray, sampling_rate: int, target_rate: int, num_samples: int
) -> Int16[np.ndarray, " num_samples"]:
    """Returns the mean of the channels, resampled, and cut or padded with zeros to `num_samples` samples, as int16.

    Args:
        waveform: an array of shape (samples,) or (channels, samples), of floats in [-1, 1] (values outside are clipped)
            or int16.
        sampling_rate: sampling rate of the waveform, Hz.
        target_rate: sampling rate of the result, Hz.
        num_samples: length of the result.

    Raises:
        ValueError: the waveform has another shape or type, no samples, or values that are not finite, or
            `sampling_rate` is not positive.
    """
    waveform = np.asarray(waveform)
    if waveform.dtype == np.int16:
        waveform = waveform.astype(np.float32) / _INT16_MAX
    if not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"a waveform must be float in [-1, 1] or int16, not {waveform.dtype}")
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise ValueError(f"a waveform must have shape (samples,) or (channels, samples), not {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise ValueError("the waveform has values that are not finite")
    mono = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)).reshape(-1, waveform.shape[-1]).mean(0)
    if sampling_rate != target_rate:
        mono = _resampler(int(sampling_rate), int(target_rate))(mono)
    samples = np.round(np.clip(mono.numpy()[:num_samples], -1.0, 1.0) * _INT16_MAX).astype(np.int16)
    return np.pad(samples, (0, num_samples - len(samples)))


@lru_cache(maxsize=8)
def _resampler(sampling_rate: int, target_rate: int) -> torchaudio.transforms.Resample:
    """Returns the resampler for two rates in Hz. It is cached, since its filter takes time to compute."""
    if sampling_rate < 1:
        raise ValueError(f"sampling_rate={sampling_rate} must be positive (Hz)")
    return torchaudio.transforms.Resample(sampling_rate, target_rate)

"""Waveforms as people hand them in: which axis is time, what scale the samples have, and one channel of several."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from torch import Tensor

from .notes import Notes, UnreadableInput

MOST_CHANNELS = 64
VALUES_PER_BLOCK = 2**20  # converted or decoded at once
LARGEST_FLOAT = 8.0  # beyond clipping, so that the scale is not [-1, 1]
_INT16_MAX = 32767
_FEW_CHANNELS = 2
# Energy of the mean of the channels, relative to what channels that are independent give: below it they cancel.
_CANCELLED = 0.01
# Half the range of unsigned samples by their bits; the mean of a sound is near it, here within half of it.
_MIDDLES = {8: 2.0**7, 16: 2.0**15}


class Scale(NamedTuple):
    """(samples - centre) / unit is in [-1, 1]."""

    centre: float = 0.0
    unit: float = 1.0


def array_of(waveform: Any, name: str) -> np.ndarray | Tensor:
    """A waveform as it is if it is an array or a tensor; anything else, such as a list, as an array.

    Raises:
        UnreadableInput: it is no array of numbers.
    """
    if isinstance(waveform, (np.ndarray, Tensor)):
        return waveform
    kind = type(waveform).__name__
    try:
        if isinstance(waveform, (list, tuple)) and any(isinstance(part, np.ma.MaskedArray) for part in waveform):
            return np.ma.stack(waveform)
        array = np.asarray(waveform)
    except Exception as error:  # of whatever library the object is
        raise UnreadableInput(f"{name}, a {kind}, is not an array of numbers: {error}") from error
    if array.ndim == 0:
        raise UnreadableInput(
            f"{name} is a {kind}, of shape (): a sound is a path, the content of a file as bytes, or an array of "
            "samples (of a list, each element is a sound)"
        )
    return array


def used_samples(waveform: np.ndarray | Tensor, needed: int, name: str) -> Shaped[np.ndarray, "channels used"]:
    """The first samples of a waveform, with the type that they have; nothing else of it is converted or looked at.

    Args:
        waveform: (samples,), (channels, samples) or (samples, channels).
        needed: how many samples, at most.
        name: of the waveform, for errors.

    Raises:
        UnreadableInput: another shape, values that are masked, or a tensor that NumPy cannot take over.
    """
    if isinstance(waveform, Tensor):
        return _taken_over(_time_last(_dense(waveform, name), name)[:, :needed], name)
    used = _time_last(waveform, name)[:, :needed]
    if np.ma.is_masked(used):
        raise UnreadableInput(f"{name} has masked samples: fill the masked values, such as waveform.filled(0)")
    return np.asarray(used)


def _dense(waveform: Tensor, name: str) -> Tensor:
    """A tensor whose values NumPy can have, or an error with the remedy."""
    remedies = {
        "is a nested tensor": (waveform.is_nested, "give a list of waveforms"),
        "is a sparse tensor": (waveform.layout != torch.strided, "give waveform.to_dense()"),
        "is a tensor without values, on the device 'meta'": (waveform.is_meta, "give one with values"),
        "is a complex tensor": (waveform.is_complex(), "a waveform is real; give waveform.real"),
        "is a quantized tensor": (waveform.is_quantized, "give waveform.dequantize()"),
    }
    for what, (holds, remedy) in remedies.items():
        if holds:
            raise UnreadableInput(f"{name} {what}: {remedy}")
    return waveform.detach()


def _taken_over(waveform: Tensor, name: str) -> np.ndarray:
    try:
        # NumPy has none of the other types of 16 or 8 bits, such as bfloat16.
        known = not waveform.is_floating_point() or waveform.dtype in (torch.float32, torch.float64)
        return (waveform if known else waveform.float()).cpu().resolve_neg().numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise UnreadableInput(f"{name}, a tensor of {waveform.dtype}, is not an array of numbers: {error}") from error


def _time_last(waveform: Any, name: str) -> Any:
    """(channels, samples) of an array or tensor of either order: there are few channels and many samples."""
    shape = tuple(waveform.shape)
    if len(shape) not in (1, 2) or 0 in shape:
        raise UnreadableInput(
            f"{name} has shape {shape}; a waveform has shape (samples,) or (channels, samples) and at least one "
            "sample, and several sounds are a list of waveforms"
        )
    if len(shape) == 1:
        return waveform[None]
    channels, samples = sorted(shape)
    may_be_either = channels == samples > 1 or (channels > _FEW_CHANNELS and samples <= MOST_CHANNELS)
    if channels > MOST_CHANNELS or may_be_either:
        raise UnreadableInput(
            f"{name} of shape {shape} may be (channels, samples) or (samples, channels): give one channel "
            "of shape (samples,)"
        )
    return waveform.T if shape[1] < shape[0] else waveform


def scale_of(used: Shaped[np.ndarray, "channels used"], name: str, notes: Notes | None) -> Scale:
    """The scale of some samples: by their type or, where a type has several scales, by their values.

    Args:
        used: the samples.
        name: of the waveform, for messages.
        notes: where it is noted that the values decided.

    Raises:
        UnreadableInput: no scale fits, it cannot be told, or values are not finite.
    """
    kind, bits = used.dtype.kind, 8 * used.dtype.itemsize
    if kind not in "iuf":
        raise UnreadableInput(f"{name} has samples of type {used.dtype}: give floats in [-1, 1] or integers")
    if (kind == "i" and bits > 32) or (kind == "u" and bits > 16):
        raise UnreadableInput(
            f"{name} has samples of type {used.dtype}, which does not tell their scale: convert samples of 16 bits "
            "with astype('int16'), or divide by the largest value of the scale, such as 2**31 for 32 bits"
        )
    notes = notes or Notes()
    lowest, highest = float(used.min()), float(used.max())
    largest = float(np.maximum(-lowest, highest))  # not finite where a value is not
    if kind == "f":
        return _scale_of_floats(used, lowest, highest, name, notes)
    if kind == "u":
        if not _swings_around(used, _MIDDLES[bits]):
            raise UnreadableInput(
                f"{name} is {used.dtype}, whose samples swing around {_MIDDLES[bits]:g}, but their mean is "
                f"{used.mean():.1f}: give signed integers, or floats in [-1, 1]"
            )
        return Scale(_MIDDLES[bits], _MIDDLES[bits])
    if largest == 1:
        notes.add(
            "integers of which none is beyond 1 are next to silence; they may be floats in [-1, 1] that were cast to "
            "integers",
            name,
        )
    if bits < 32:
        return Scale(unit=2.0**7 if bits == 8 else _INT16_MAX)
    # 24 bits are stored in 32 either as the upper bytes, as scipy does, or as a number.
    if largest > 2**23 or not (used & 0xFF).any():
        return Scale(unit=2.0**31)
    taken = 16 if largest <= 2**15 else 24
    notes.add("int32 samples that fit into fewer bits are taken for samples of these", f"{name} ({taken} bits)")
    return Scale(unit=2.0 ** (taken - 1))


def _scale_of_floats(used: np.ndarray, lowest: float, highest: float, name: str, notes: Notes) -> Scale:
    largest = float(np.maximum(-lowest, highest))
    if not np.isfinite(largest):
        number = int(np.flatnonzero(~np.isfinite(used).all(0))[0])
        raise UnreadableInput(f"{name} has values that are not finite, the first of them in sample {number}")
    if largest <= LARGEST_FLOAT:
        if lowest >= 0 and lowest < highest <= 1 and _swings_around(used, 0.5):
            notes.add(
                "a waveform swings around 0, and silence is 0; samples that lie in [0, 1] may need 2 * samples - 1",
                name,
            )
        return Scale()
    if lowest >= 0:
        for bits, middle in _MIDDLES.items():
            if highest < 2 * middle and _swings_around(used, middle):
                notes.add(
                    f"floats of a waveform are in [-1, 1]; ones around {middle:g} are taken for unsigned {bits} bits",
                    f"{name} (0 to {highest:g})" if lowest == 0 else f"{name} ({lowest:g} to {highest:g})",
                )
                return Scale(middle, middle)
        raise UnreadableInput(
            f"{name} has floats from {lowest:g} to {highest:g}, but a waveform swings around 0, in [-1, 1]: subtract "
            "the value of silence, and divide by the largest value of the scale"
        )
    unit = next((unit for unit in (2.0**7, 2.0**15, 2.0**31) if largest <= unit), None)
    if unit is None:
        raise beyond(largest, name)
    notes.add(f"floats of a waveform are in [-1, 1]; larger ones are divided by {unit:g}", f"{name} ({largest:g})")
    return Scale(unit=unit)


def beyond(largest: float, name: str) -> UnreadableInput:
    """The error for floats on an unknown scale."""
    return UnreadableInput(
        f"{name} reaches {largest:g}, but floats are in [-1, 1]: divide them by the largest value of their scale, "
        "such as 32768 for 16 bits, or give them as int16"
    )


def _swings_around(used: np.ndarray, middle: float) -> bool:
    return bool(middle / 2 <= used.mean(dtype=np.float64) <= middle * 1.5)


def scaled_blocks(
    used: Shaped[np.ndarray, "channels used"], scale: Scale
) -> Iterator[Float32[np.ndarray, "channels block"]]:
    """The samples in [-1, 1], block by block, so that never more than a block is converted."""
    step = VALUES_PER_BLOCK // len(used)
    for start in range(0, used.shape[1], step):
        block = np.array(used[:, start : start + step], dtype=np.float32, order="C")
        if scale.centre:
            block = block - scale.centre
        yield block if scale.unit == 1 else block / scale.unit


class Mixer:
    """Averages the channels of a waveform block by block, and tells whether they cancel each other."""

    def __init__(self) -> None:
        self._energies = np.zeros(1)  # of the channels and, last, of their mean

    def __call__(self, block: Float32[np.ndarray, "channels block"]) -> Float32[np.ndarray, " block"]:
        """The mean of the channels."""
        if len(block) == 1:
            return block[0]
        with np.errstate(all="ignore"):  # values that are not finite are refused afterwards, by name
            mean = block[0] + block[1]
            for channel in block[2:]:
                mean += channel
            mean /= len(block)
            squares = np.asarray([signal @ signal for signal in (*block, mean)], dtype=np.float64)
            sums = torch.from_numpy(block).sum(1).numpy().astype(np.float64)
            constant = np.append(sums, sums.mean()) ** 2 / len(mean)
            # An offset is no sound, nor is what rounding leaves of one.
            self._energies = self._energies + np.where(squares - constant > 1e-5 * squares, squares - constant, 0.0)
        return mean

    def louder_channel(self) -> int | None:
        """The number of the loudest channel if the channels have opposite phases, so that their mean is no sound."""
        channels, mean = self._energies[:-1], self._energies[-1]
        if not len(channels) or not mean < _CANCELLED * channels.sum() / len(channels) ** 2:
            return None
        return int(np.argmax(channels))

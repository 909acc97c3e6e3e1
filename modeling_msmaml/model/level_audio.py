"""
The level encoder of audio: the convolutional network of aiSFX (Ma and Lerch 2022, "Representation Learning for the
Automatic Indexing of Sound Effects Libraries", ISMIR), which was trained to name sound effects, written anew.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from .level_encoder import WaveformEncoder, segment_means
from .level_mel import (
    BANDS,
    HOP,
    LARGEST_LOG,
    SAMPLING_RATE,
    SCALE,
    at_peak_1,
    log_mel,
    number_of_frames,
    resampled,
    sounding_bands,
)

BLOCK, BLOCK_HOP = 100, 50  # frames that the network reads at once, and from one such block to the next
POOLING = (2, 2, 2, 1)  # of each convolutional block, in time and frequency
FREQUENCY_CELLS = 6  # of the levels that keep frequency
TEMPLATE = (8, 24)  # cells in time and frequency
QUIET = 1e-4  # power of a frame, as a part of the loudest's, below which the ends of a sound are silence (-40 dB)
NETWORK_BATCH = 8  # number of blocks that the network reads at once on the CPU
ACCELERATOR_NETWORK_BATCH = 256  # the same on an accelerator


class ConvolutionalBlock(nn.Module):
    """Two 3x3 convolutions without bias, each with batch norm and ReLU, then maximum pooling."""

    def __init__(self, channels_in: int, channels: int, pooling: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.pooling = pooling

    def forward(self, inputs: Float[Tensor, "batch c frames bands"]) -> Float[Tensor, "batch channels f b"]:
        inputs = inputs.contiguous(memory_format=torch.channels_last)  # up to a third faster on CPUs
        hidden = F.relu_(_normalised_convolution(inputs, self.conv1, self.bn1))
        hidden = F.relu_(_normalised_convolution(hidden, self.conv2, self.bn2))
        return hidden if self.pooling == 1 else F.max_pool2d(hidden, self.pooling)


def _normalised_convolution(inputs: Tensor, convolution: nn.Conv2d, norm: Any) -> Tensor:
    """A convolution and its batch norm in one pass over the data, since the norm is linear in evaluation mode."""
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = convolution.weight * scale[:, None, None, None]
    return F.conv2d(inputs, weight, norm.bias - norm.running_mean * scale, padding=1)


class SoundEffectLevels(WaveformEncoder):
    """
    Maps waveforms (batch, samples), int16 or floats in [-1, 1], to levels. Zeros at the end are padding.

    The waveform is scaled to peak 1. Its log-mel spectrogram (see level_mel.py) is read in blocks of 100 frames (2.3 s)
    that overlap by half; frames after the last whole block are left out, and a shorter sound is filled up with silence.
    Levels are means over the blocks:

    - `A1m` to `A4m`: mean, maximum and standard deviation of the map of convolutional block 1 to 4, over time and
      frequency.
    - `A2f`, `A4f`: the map of block 2 and 4, averaged over time, without the silence that fills up a block, and over
      the cells of six bands of frequency.
    - `A4`: the mean of the last map over frequency, its maximum over time: the network's own embedding.
    - `A4s`, `A4fs`: the same as `A4` and `A4f`, read with a finer hop where the *active part* is shorter than 100
      frames, so that it takes one block: the network sees short sounds drawn out in time, with as many positions as
      long ones have. The active part is what lies between the first and the last frame that are within 40 dB of the
      loudest.
    - `S`: of each mel band, its mean, its standard deviation, and its mean absolute change from frame to frame.
    - `T`: the template, the log-mel spectrogram of the active part, averaged over 8 cells in time and 24 in frequency,
      less the mean over these. Its cells in time are parts of the active part, whatever its length.

    Levels that keep frequency leave out the mel bands above half of the sampling rate, which are empty.

    Args:
        sampling_rate: of the waveforms, in Hz. They are resampled to 44.1 kHz.
        channels: of the four convolutional blocks.
        levels: names of the levels to return, see `LevelEncoder.set_levels`.
    """

    def __init__(
        self,
        sampling_rate: int = 16_000,
        channels: Sequence[int] = (64, 128, 256, 512),
        levels: Sequence[str] | None = None,
    ):
        super().__init__(sampling_rate)
        if len(channels) != len(POOLING):
            raise ValueError(f"channels={list(channels)} must be {len(POOLING)} numbers, one for each block")
        widths = zip((1, *channels[:-1]), channels, POOLING, strict=True)
        self.blocks = nn.ModuleList(ConvolutionalBlock(*width) for width in widths)
        self.bands = sounding_bands(sampling_rate, TEMPLATE[1])
        one, two, three, four = channels
        sizes = {"A1m": 3 * one, "A2m": 3 * two, "A2f": FREQUENCY_CELLS * two, "A3m": 3 * three, "A4": four}
        sizes |= {"A4m": 3 * four, "A4f": FREQUENCY_CELLS * four, "A4s": four, "A4fs": FREQUENCY_CELLS * four}
        self.set_levels({**sizes, "S": 3 * self.bands, "T": TEMPLATE[0] * TEMPLATE[1]}, "A4", levels)

    def encode(self, raw: Shaped[Tensor, "batch samples"]) -> dict[str, Float[Tensor, "batch size"]]:
        waves = self.scale(raw, torch.float32)
        samples = self.lengths(waves, SAMPLING_RATE)
        waves = resampled(at_peak_1(waves), self.sampling_rate)
        waves = waves * (torch.arange(waves.shape[1], device=waves.device) < samples[:, None])  # rings after the end
        lengths = number_of_frames(samples)
        frames = torch.arange(int(lengths.max()), device=waves.device)
        valid = frames < lengths[:, None]
        mel = log_mel(waves, (frames * HOP).expand_as(valid)) * valid[..., None]
        starts, ends = active_parts(mel, valid)
        short = (ends - starts) < BLOCK
        drawn_out = log_mel(waves[short], fine_centres(starts[short], ends[short], samples[short]))
        return {
            **self._network_levels(mel, valid, drawn_out, short),
            "S": spectrum_statistics(mel[..., : self.bands], valid),
            "T": self._templates(mel, starts, ends, drawn_out, short),
        }

    def _network_levels(
        self,
        mel: Float[Tensor, "batch frames bands"],
        valid: Bool[Tensor, "batch frames"],
        drawn_out: Float[Tensor, "short block bands"],
        short: Bool[Tensor, " batch"],
    ) -> dict[str, Float[Tensor, "batch size"]]:
        """The levels that the convolutional network gives."""
        counts = ((valid.sum(dim=1) - BLOCK).clamp(min=0) // BLOCK_HOP + 1).tolist()
        missing = max(0, BLOCK - mel.shape[1])
        parts = F.pad(mel, (0, 0, 0, missing)).unfold(1, BLOCK, BLOCK_HOP).transpose(2, 3)
        filled = F.pad(valid, (0, missing)).unfold(1, BLOCK, BLOCK_HOP).sum(dim=2)
        parts = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        filled = torch.cat([part[:count] for part, count in zip(filled, counts, strict=True)])
        whole = torch.full((len(drawn_out),), BLOCK, device=filled.device)
        found = self._read(torch.cat([parts, drawn_out]), torch.cat([filled, whole]))
        levels = {name: segment_means(level[: len(parts)], counts) for name, level in found.items()}
        for name, fine in (("A4", "A4s"), ("A4f", "A4fs")):
            levels[fine] = levels[name].clone()
            levels[fine][short] = found[name][len(parts) :]
        return levels

    def _read(
        self, parts: Float[Tensor, "parts frames bands"], filled: Int[Tensor, " parts"]
    ) -> dict[str, Float[Tensor, "parts size"]]:
        """The levels of single blocks of frames, of which the first `filled` are those of a sound."""
        size = NETWORK_BATCH if parts.device.type == "cpu" else ACCELERATOR_NETWORK_BATCH
        found = []
        for some, frames in zip(parts.split(size), filled.split(size), strict=True):
            hidden, levels = some[:, None].to(self.dtype), {}
            for number, block in enumerate(self.blocks, start=1):
                hidden = block(hidden)
                levels[f"A{number}m"] = map_statistics(hidden)
                if number in (2, 4):
                    sounding = hidden[..., : -(-hidden.shape[3] * self.bands // BANDS)]
                    levels[f"A{number}f"] = frequency_cells(sounding, -(-frames * hidden.shape[2] // BLOCK))
            found.append({**levels, "A4": hidden.mean(dim=3).amax(dim=2)})
        return {name: torch.cat([levels[name] for levels in found]) for name in found[0]}

    def _templates(
        self,
        mel: Float[Tensor, "batch frames bands"],
        starts: Int[Tensor, " batch"],
        ends: Int[Tensor, " batch"],
        drawn_out: Float[Tensor, "short block bands"],
        short: Bool[Tensor, " batch"],
    ) -> Float[Tensor, "batch cells"]:
        """The level `T`."""
        cells = mel.new_empty(len(mel), *TEMPLATE)
        cells[short] = F.adaptive_avg_pool2d(drawn_out[..., : self.bands], TEMPLATE)
        for number in (~short).nonzero()[:, 0].tolist():
            active = mel[number, starts[number] : ends[number], : self.bands]
            cells[number] = F.adaptive_avg_pool2d(active[None], TEMPLATE)[0]
        cells = cells.flatten(1)
        return cells - cells.mean(dim=1, keepdim=True)


def active_parts(
    mel: Float[Tensor, "batch frames bands"], valid: Bool[Tensor, "batch frames"]
) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """
    Returns the first frame and the end of the part of each sound that lies between its first and last frame whose power
    is at least 10^-4 of the loudest's. Of silence, all valid frames are active.
    """
    power = ((10 ** (mel * LARGEST_LOG) - 1) / SCALE).sum(dim=2)
    loud = (power >= QUIET * power.amax(dim=1, keepdim=True)) & valid
    places = torch.arange(mel.shape[1], device=mel.device)
    starts = torch.where(loud, places, mel.shape[1]).amin(dim=1)
    return starts, torch.where(loud, places + 1, 0).amax(dim=1)


def fine_centres(
    starts: Int[Tensor, " batch"], ends: Int[Tensor, " batch"], samples: Int[Tensor, " batch"]
) -> Int[Tensor, "batch frames"]:
    """The samples at the centres of `BLOCK` frames, evenly spaced over active parts that are given in frames."""
    first, last = (starts * HOP - HOP // 2).clamp(min=0), torch.minimum(ends * HOP - HOP // 2, samples)
    steps = 2 * torch.arange(BLOCK, device=starts.device) + 1
    return first[:, None] + (last - first).clamp(min=0)[:, None] * steps // (2 * BLOCK)


def map_statistics(maps: Float[Tensor, "batch channels frames bands"]) -> Float[Tensor, "batch 3*channels"]:
    """Returns mean, maximum and standard deviation of each channel over time and frequency."""
    positions = maps.flatten(2).float()
    mean = positions.mean(dim=2)
    deviation = (positions - mean[..., None]).square_().mean(dim=2).sqrt()
    return torch.cat([mean, positions.amax(dim=2), deviation], dim=1)


def frequency_cells(
    maps: Float[Tensor, "batch channels frames bands"], frames: Int[Tensor, " batch"]
) -> Float[Tensor, "batch channels*cells"]:
    """Returns the mean over time, of the first `frames` frames, in each of `FREQUENCY_CELLS` parts of frequency."""
    inside = torch.arange(maps.shape[2], device=maps.device) < frames[:, None]
    over_time = (maps * inside[:, None, :, None]).sum(dim=2, dtype=torch.float32) / frames[:, None, None]
    return F.adaptive_avg_pool1d(over_time, FREQUENCY_CELLS).flatten(1)


def spectrum_statistics(
    mel: Float[Tensor, "batch frames bands"], valid: Bool[Tensor, "batch frames"]
) -> Float[Tensor, "batch 3*bands"]:
    """Returns mean, standard deviation and mean absolute change from frame to frame of each band, of valid frames."""
    weights = valid[..., None] / valid.sum(dim=1)[:, None, None]
    mean = (mel * weights).sum(dim=1)
    deviation = ((mel - mean[:, None]).square() * weights).sum(dim=1).sqrt()
    both = (valid[:, 1:] & valid[:, :-1])[..., None]
    change = (mel.diff(dim=1).abs() * both).sum(dim=1) / both.sum(dim=1).clamp(min=1)
    return torch.cat([mean, deviation, change], dim=1)

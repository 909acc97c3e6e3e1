"""The level encoder of sounds without control flow that depends on data, for export."""

import torch
import torch.nn.functional as F
import torchaudio
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from ..model.level_audio import (
    BLOCK,
    BLOCK_HOP,
    FREQUENCY_CELLS,
    TEMPLATE,
    SoundEffectLevels,
    active_parts,
    fine_centres,
    map_statistics,
    spectrum_statistics,
)
from ..model.level_mel import (
    BANDS,
    FILTER_WIDTH,
    HOP,
    SAMPLING_RATE,
    WINDOW,
    at_peak_1,
    log_mel_of_frames,
    number_of_frames,
)
from .exported_cells import cell_weights, whole_weights


class ExportedSounds(nn.Module):
    """
    Maps waveforms (batch, samples) to the levels of [`SoundEffectLevels`]. Every sound has as many blocks as the widest
    row needs, and is read with the finer hop as well; what does not belong to it counts nothing.

    Args:
        encoder: its weights are shared.
    """

    def __init__(self, encoder: SoundEffectLevels):
        super().__init__()
        self.encoder = encoder
        self.resample = torchaudio.transforms.Resample(
            encoder.sampling_rate, SAMPLING_RATE, lowpass_filter_width=FILTER_WIDTH, dtype=torch.float32
        )

    def forward(self, raw: Shaped[Tensor, "batch samples"]) -> dict[str, Float[Tensor, "batch size"]]:
        encoder = self.encoder
        waves = encoder.scale(raw, torch.float32)
        samples = encoder.lengths(waves, SAMPLING_RATE)
        waves = self._resampled(at_peak_1(waves))
        waves = waves * (torch.arange(waves.shape[1]) < samples[:, None])
        halves = _halves(waves)
        frames = torch.cat([halves[:, :-1], halves[:, 1:]], dim=2)
        numbers = torch.arange(frames.shape[1])
        valid = numbers < number_of_frames(samples)[:, None]
        mel = log_mel_of_frames(frames) * valid[..., None]
        starts, ends = active_parts(mel, valid)
        short = (ends - starts) < BLOCK
        places = fine_centres(starts, ends, samples)[..., None] + torch.arange(WINDOW)
        drawn_out = log_mel_of_frames(halves.flatten(1).gather(1, places.flatten(1)).unflatten(1, (BLOCK, WINDOW)))
        return {
            **self._network_levels(mel, valid, drawn_out, short),
            "S": spectrum_statistics(mel[..., : encoder.bands], valid),
            "T": _templates(mel[..., : encoder.bands], starts, ends, drawn_out[..., : encoder.bands], short),
        }

    def _resampled(self, waves: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch more"]:
        """Waveforms at 44.1 kHz; what follows after their end is to be cut off."""
        rate, kernel = self.encoder.sampling_rate, getattr(self.resample, "kernel", None)
        if kernel is None:
            return waves
        step, width = rate // self.resample.gcd, self.resample.width
        found = F.conv1d(F.pad(waves, (width, width + step))[:, None], kernel, stride=step)
        return found.transpose(1, 2).flatten(1)

    def _network_levels(
        self,
        mel: Float[Tensor, "batch frames bands"],
        valid: Bool[Tensor, "batch frames"],
        drawn_out: Float[Tensor, "batch block bands"],
        short: Bool[Tensor, " batch"],
    ) -> dict[str, Float[Tensor, "batch size"]]:
        """The levels that the convolutional network gives."""
        frames = mel.shape[1]
        number = torch.sym_max(0, frames - BLOCK) // BLOCK_HOP + 1
        mel = F.pad(mel, (0, 0, 0, BLOCK))
        places = (torch.arange(number) * BLOCK_HOP)[:, None] + torch.arange(BLOCK)
        parts = mel[:, places.flatten()].unflatten(1, (-1, BLOCK))
        lengths = valid.sum(dim=1)
        filled = (lengths[:, None] - torch.arange(number) * BLOCK_HOP).clamp(min=1, max=BLOCK)
        counts = (lengths - BLOCK).clamp(min=0) // BLOCK_HOP + 1
        found = self._read(parts.flatten(0, 1), filled.flatten())
        weights = (torch.arange(number) < counts[:, None]) / counts[:, None]
        levels = {
            name: (level.unflatten(0, (-1, number)) * weights[..., None]).sum(dim=1) for name, level in found.items()
        }
        whole = self._read(drawn_out, torch.full_like(counts, BLOCK))
        for name, fine in (("A4", "A4s"), ("A4f", "A4fs")):
            levels[fine] = torch.where(short[:, None], whole[name], levels[name])
        return levels

    def _read(
        self, parts: Float[Tensor, "parts frames bands"], filled: Int[Tensor, " parts"]
    ) -> dict[str, Float[Tensor, "parts size"]]:
        """The levels of single blocks of frames, of which the first `filled` are those of a sound."""
        hidden, levels = parts[:, None].to(self.encoder.dtype), {}
        for number, block in enumerate(self.encoder.blocks, start=1):
            hidden = block(hidden)
            levels[f"A{number}m"] = map_statistics(hidden)
            if number in (2, 4):
                sounding = hidden[..., : -(-hidden.shape[3] * self.encoder.bands // BANDS)]
                levels[f"A{number}f"] = _frequency_cells(sounding, -(-filled * hidden.shape[2] // BLOCK))
        return {**levels, "A4": hidden.mean(dim=3).amax(dim=2)}


def _halves(waves: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch halves hop"]:
    """Waveforms between zeros, in parts of `HOP` samples: two of them, one after the other, are a frame."""
    count = (waves.shape[1] + HOP - 1) // HOP + 2
    filled = F.pad(waves, (WINDOW // 2, count * HOP - WINDOW // 2 - waves.shape[1]))
    return filled.unflatten(1, (-1, HOP))


def _frequency_cells(
    maps: Float[Tensor, "parts channels frames bands"], frames: Int[Tensor, " parts"]
) -> Float[Tensor, "parts channels*cells"]:
    """The mean over time, of the first `frames` frames, in each part of frequency."""
    inside = torch.arange(maps.shape[2]) < frames[:, None]
    over_time = (maps * inside[:, None, :, None]).float().sum(dim=2) / frames[:, None, None]
    return (over_time @ whole_weights(maps.shape[3], FREQUENCY_CELLS).T).flatten(1)


def _templates(
    mel: Float[Tensor, "batch frames bands"],
    starts: Int[Tensor, " batch"],
    ends: Int[Tensor, " batch"],
    drawn_out: Float[Tensor, "batch block bands"],
    short: Bool[Tensor, " batch"],
) -> Float[Tensor, "batch cells"]:
    """The level `T`."""
    in_time, in_frequency = TEMPLATE
    of_short = whole_weights(BLOCK, in_time) @ drawn_out
    of_long = cell_weights(starts, ends, torch.arange(mel.shape[1]), in_time) @ mel
    cells = torch.where(short[:, None, None], of_short, of_long) @ whole_weights(mel.shape[2], in_frequency).T
    cells = cells.flatten(1)
    return cells - cells.mean(dim=1, keepdim=True)

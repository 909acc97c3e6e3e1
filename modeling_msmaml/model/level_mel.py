"""
The spectrogram that the level encoder of audio reads: 96 mel bands of waveforms at 44.1 kHz, as those of Essentia with
which aiSFX was trained (Ma and Lerch 2022, "Representation Learning for the Automatic Indexing of Sound Effects
Libraries", ISMIR).
"""

from functools import lru_cache

import torch
import torchaudio
from jaxtyping import Float, Int
from torch import Tensor

SAMPLING_RATE = 44_100  # Hz, of what the encoder was trained on
WINDOW, HOP = 2048, 1024  # samples
BANDS = 96
SCALE = 1e4  # of the power inside the logarithm
LARGEST_LOG = 9.457798957824707  # the largest value in the training data, which is mapped to 1
FILTER_WIDTH = 32  # of the resampling, in zero crossings: the steeper the filter, the more of the top octave is left
SMALLEST_PEAK = 1e-4  # below the peak of any int16 waveform that is not silent


def resampled(waves: Float[Tensor, "batch samples"], sampling_rate: int) -> Float[Tensor, "batch samples"]:
    """Returns waveforms at 44.1 kHz. Mel bands above half of a lower rate stay empty."""
    if sampling_rate == SAMPLING_RATE:
        return waves
    return torchaudio.functional.resample(waves, sampling_rate, SAMPLING_RATE, lowpass_filter_width=FILTER_WIDTH)


def at_peak_1(waves: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch samples"]:
    """Returns waveforms whose largest magnitude is 1; silence stays silence."""
    return waves / waves.abs().amax(dim=1, keepdim=True).clamp(min=SMALLEST_PEAK)


def number_of_frames(samples: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """Returns how many frames waveforms of these lengths have: one at each multiple of `HOP` up to the end, and one."""
    return (samples + HOP - 1) // HOP + 1


def log_mel(waves: Float[Tensor, "batch samples"], centres: Int[Tensor, "batch frames"]) -> Float[Tensor, "batch f m"]:
    """
    Computes the log-mel spectra of frames: log10(1 + 10^4 m) over its largest value in the training data, m the power
    spectrum through the mel filters.

    Args:
        waves: waveforms at 44.1 kHz, in [-1, 1]; they are zero before their start and after their end.
        centres: samples on which the frames are centred, from 0 to the number of samples plus `HOP`.

    Returns:
        Values from 0 on, of shape (batch, frames, bands).
    """
    if not len(waves):
        return waves.new_empty(0, centres.shape[1], BANDS)  # the transform refuses an empty batch
    padded = torch.nn.functional.pad(waves, (WINDOW // 2, WINDOW // 2 + HOP))
    # Frame c starts at c - WINDOW / 2 of the waveform, which is c of the padded one.
    frames = padded.unfold(1, WINDOW, 1)[torch.arange(len(waves), device=waves.device)[:, None], centres]
    return log_mel_of_frames(frames)


def log_mel_of_frames(frames: Float[Tensor, "batch frames window"]) -> Float[Tensor, "batch frames bands"]:
    """Computes the log-mel spectra of frames of `WINDOW` samples at 44.1 kHz, see `log_mel`."""
    window, filters = _constants(frames.device)
    spectrum = torch.fft.rfft(frames * window)
    power = spectrum.real.square() + spectrum.imag.square()
    return (1 + SCALE * (power @ filters)).log10() / LARGEST_LOG


def mel_filters() -> Float[Tensor, "frequencies bands"]:
    """
    Returns the filters, in float64: triangles over the mel scale 2595 log10(1 + f / 700) (O'Shaughnessy 1987, as in
    HTK), whose corners divide 0 to 22,050 Hz into equal parts of mel; the weights of each sum to 1.
    """
    mel = 2595 * torch.log10(1 + torch.linspace(0, SAMPLING_RATE / 2, WINDOW // 2 + 1, dtype=torch.float64) / 700)
    corners = torch.linspace(0, float(mel[-1]), BANDS + 2, dtype=torch.float64)
    rising = (mel[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - mel[:, None]) / (corners[2:] - corners[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    return filters / filters.sum(dim=0)


def sounding_bands(sampling_rate: int, multiple: int) -> int:
    """
    Returns how many mel bands, from the lowest on, reach below half of a sampling rate in Hz, rounded up to a multiple
    of `multiple`.
    """
    filters, nyquist = mel_filters(), min(sampling_rate, SAMPLING_RATE) / 2
    below = int(nyquist / (SAMPLING_RATE / 2) * (WINDOW // 2)) + 1
    return -(-int(filters[:below].any(dim=0).sum()) // multiple) * multiple


@lru_cache
def _constants(device: torch.device) -> tuple[Float[Tensor, " window"], Float[Tensor, "frequencies bands"]]:
    """The Hann window, which is 0 at both ends, and the mel filters. No buffers, so that no checkpoint holds them."""
    window = torch.hann_window(WINDOW, periodic=False, dtype=torch.float64)
    return window.float().to(device), mel_filters().float().to(device)

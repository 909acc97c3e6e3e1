"""The level encoder of audio: its spectrogram, blocks, the finer hop for short sounds, and the template."""

import math
from typing import Any

import pytest
import torch
import torchaudio

from modeling_msmaml.model.level_audio import ConvolutionalBlock, active_parts, spectrum_statistics
from modeling_msmaml.model.level_mel import log_mel, mel_filters, number_of_frames, resampled, sounding_bands

from .level_encoders import SAMPLES, sounds, tiny

RATE = 44_100


def flat(encoder, waves: torch.Tensor) -> torch.Tensor:
    return torch.cat(list(encoder.encode(waves).values()), dim=1)


def levels(encoder, waves: torch.Tensor) -> dict[str, torch.Tensor]:
    return encoder.encode(waves)


def tone(frequency: float, seconds: float, rate: int = 16_000) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


def naive_log_mel(wave: torch.Tensor, centre: int) -> torch.Tensor:
    """One frame by the formulas alone, in float64."""
    places = torch.arange(centre - 1024, centre + 1024)
    inside = (places >= 0) & (places < len(wave))
    frame = torch.where(inside, wave.double()[places.clamp(0, len(wave) - 1)], 0.0)
    frame *= 0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(2048) / 2047)
    angles = 2 * math.pi / 2048 * torch.arange(1025).double()[:, None] * torch.arange(2048)
    power = (frame * angles.cos()).sum(1) ** 2 + (frame * angles.sin()).sum(1) ** 2
    mel = [2595 * math.log10(1 + k * 44_100 / 2048 / 700) for k in range(1025)]
    step, bands = mel[-1] / 97, []
    for band in range(96):
        weights = torch.tensor([max(0.0, 1 - abs(m / step - band - 1)) for m in mel], dtype=torch.float64)
        bands.append((weights * power).sum() / weights.sum())
    return (1 + 1e4 * torch.stack(bands)).log10() / 9.457798957824707


def test_spectrogram_is_that_of_its_formulas():
    wave = sounds([9000], width=9000)[0] / 32767
    centres = torch.tensor([[0, 1024, 5000, 9216]])
    found = log_mel(wave[None], centres)[0]
    for row, centre in zip(found, centres[0].tolist(), strict=True):
        torch.testing.assert_close(row.double(), naive_log_mel(wave, centre), rtol=1e-4, atol=1e-5)


def test_spectrogram_is_that_of_essentia():
    standard = pytest.importorskip(
        "essentia.standard", reason="Essentia, with which aiSFX was trained, is no dependency"
    )
    wave = sounds([30_000], width=30_000)[0] / 32767
    window, spectrum = standard.Windowing(type="hann", normalized=False), standard.Spectrum(size=2048)
    bands = standard.MelBands(
        inputSize=1025,
        numberBands=96,
        sampleRate=RATE,
        highFrequencyBound=RATE / 2,
        warpingFormula="htkMel",
        weighting="warping",
        normalize="unit_sum",
        type="power",
    )
    frames = standard.FrameGenerator(wave.numpy(), 2048, 1024)
    power = torch.stack([torch.from_numpy(bands(spectrum(window(frame)))) for frame in frames])
    number = int(number_of_frames(torch.tensor(len(wave))))
    assert number == len(power)
    found = log_mel(wave[None], torch.arange(number)[None] * 1024)[0]
    torch.testing.assert_close(found, (1 + 1e4 * power).log10() / 9.457798957824707, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("samples", "frames"), [(0, 1), (1, 2), (1000, 2), (2048, 3), (44_100, 45), (220_500, 217)])
def test_number_of_frames_is_that_of_essentia(samples, frames):
    assert number_of_frames(torch.tensor(samples)) == frames


def test_filters_sum_to_one_and_overlap_by_half():
    filters = mel_filters()
    assert filters.shape == (1025, 96)
    torch.testing.assert_close(filters.sum(dim=0), torch.ones(96, dtype=torch.float64))
    assert ((filters > 0).sum(dim=1) <= 2).all() and ((filters > 0).sum(dim=0) > 0).all()


@pytest.mark.parametrize(("rate", "bands"), [(44_100, 96), (96_000, 96), (16_000, 72), (8000, 72), (2000, 48)])
def test_bands_that_sound(rate, bands):
    assert sounding_bands(rate, 24) == bands


def test_resampling_keeps_what_is_below_and_adds_nothing_above():
    found = resampled(tone(7000, 1)[None], 16_000)[0]
    inner = slice(4000, 40_000)
    torch.testing.assert_close(found[inner], tone(7000, 1, RATE)[inner], rtol=0, atol=1e-2)
    noise = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    power = torch.fft.rfft(resampled(noise, 16_000)[0]).abs().square()
    assert power[8500:].sum() < 1e-4 * power.sum()


def test_a_rate_of_its_own_gives_nearly_the_same():
    spectrum = torch.fft.rfft(torch.randn(1, RATE, generator=torch.Generator().manual_seed(0)))
    spectrum[:, 3000:] = 0
    wave = torch.fft.irfft(spectrum) * torch.hann_window(RATE)
    wave /= wave.abs().max()
    low = torchaudio.functional.resample(wave, RATE, 16_000, lowpass_filter_width=64)
    for name in ("A1m", "A4", "A4m"):
        one = tiny("audio", sampling_rate=RATE).encode(wave)[name]
        other = tiny("audio").encode(low)[name]
        assert (one - other).norm() < 0.02 * one.norm(), name


def test_embedding_is_that_of_the_published_network_block_by_block():
    encoder = tiny("audio", sampling_rate=RATE).double().float()
    wave = sounds([190_000], width=190_000)[0].float()
    wave /= wave.abs().max()
    mel = log_mel(wave[None], torch.arange(187)[None] * 1024)[0]
    outputs = []
    for start in (0, 50):  # a third block would need 200 frames
        hidden = mel[None, None, start : start + 100]
        for block, size in zip(encoder.blocks, (2, 2, 2, 1), strict=True):
            hidden = torch.relu(block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(hidden))))))
            hidden = torch.max_pool2d(hidden, size)
        outputs.append(hidden.mean(dim=3).amax(dim=2)[0])
    found = encoder.encode(wave[None])["A4"][0]
    torch.testing.assert_close(found, torch.stack(outputs).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_a_block_is_two_convolutions_with_norm():
    block: Any = ConvolutionalBlock(3, 5, 2).eval()
    torch.nn.init.normal_(block.bn1.running_mean)
    torch.nn.init.uniform_(block.bn2.running_var, 0.5, 2)
    inputs = torch.randn(2, 3, 9, 8)
    hidden = torch.relu(block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(inputs))))))
    torch.testing.assert_close(block(inputs), torch.max_pool2d(hidden, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 50, 4000, 40_000])
def test_zeros_after_a_sound_change_nothing(length):
    encoder = tiny("audio")
    short = sounds([length, length], width=length, seed=3)
    short[:, -1] = 1000
    expected = flat(encoder, short)
    padded = torch.nn.functional.pad(short, (0, SAMPLES - length))
    torch.testing.assert_close(flat(encoder, padded), expected, rtol=1e-4, atol=1e-5)


def test_loudness_changes_nothing():
    encoder, waves = tiny("audio"), sounds([8000, SAMPLES]) / 32767
    torch.testing.assert_close(flat(encoder, waves / 10), flat(encoder, waves), rtol=1e-3, atol=1e-4)


def test_silence_has_finite_levels_and_no_template():
    found = levels(tiny("audio"), torch.zeros(2, SAMPLES, dtype=torch.int16))
    assert all(level.isfinite().all() for level in found.values())
    assert not found["T"].any() and not found["S"].any()


def test_only_short_sounds_are_read_with_a_finer_hop():
    short, long = tiny("audio").encode(sounds([8000, SAMPLES])), 1
    for name, fine in (("A4", "A4s"), ("A4f", "A4fs")):
        assert torch.equal(short[fine][long], short[name][long])
        assert (short[fine][0] - short[name][0]).norm() > 0.05 * short[name][0].norm()


def test_templates_of_a_sound_at_any_place_and_of_any_length_are_alike():
    low, high = tone(300, 0.5), tone(3000, 0.5)
    rising, falling = torch.cat([low, high]), torch.cat([high, low])
    slow = torch.cat([tone(300, 2), tone(3000, 2)])
    later = torch.cat([torch.zeros(30_000), rising])
    rows = torch.nn.utils.rnn.pad_sequence([rising, slow, later, falling], batch_first=True)
    rows = torch.nn.functional.pad(rows, (0, SAMPLES - rows.shape[1]))
    template = tiny("audio").encode(rows)["T"]
    torch.testing.assert_close(template.mean(dim=1), torch.zeros(4), rtol=0, atol=1e-5)
    alike = torch.nn.functional.cosine_similarity(template, template[:1])
    assert alike[1] > 0.95 and alike[2] > 0.95 and alike[3] < 0.5


def test_active_parts_are_within_40_db_of_the_loudest_frame():
    decibels = torch.tensor([[-60.0, -39, 0, -80, -39, -41], [-200.0] * 6, [-60.0, 0, -60, -60, -60, -60]])
    power = 100 * 10 ** (decibels / 10)
    mel = ((1 + 1e4 * power).log10() / 9.457798957824707)[..., None]
    mel[1] = 0
    valid = torch.tensor([[True] * 6, [True] * 2 + [False] * 4, [True] * 6])
    starts, ends = active_parts(mel, valid)
    assert (starts.tolist(), ends.tolist()) == ([1, 0, 1], [5, 2, 2])


def test_statistics_are_those_of_valid_frames():
    mel = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    valid = torch.arange(9) < torch.tensor([[9], [1]])
    found = spectrum_statistics(mel, valid)
    expected = [mel[0].mean(0), mel[0].std(0, correction=0), mel[0].diff(dim=0).abs().mean(0)]
    torch.testing.assert_close(found[0], torch.cat(expected))
    torch.testing.assert_close(found[1], torch.cat([mel[1, 0], torch.zeros(6)]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": [4, 6, 8]}, "must be 4 numbers, one for each block"),
        ({"sampling_rate": 100}, "sampling_rate=100 must be an integer of at least 1000"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny("audio", **changes)


def test_empty_waveforms_and_other_integers_are_refused():
    encoder = tiny("audio")
    with pytest.raises(ValueError, match="at least one sample"):
        encoder.levels(torch.zeros(1, 0))
    with pytest.raises(ValueError, match="raw inputs of dtype torch.int32 have no known scale"):
        encoder.levels(torch.zeros(1, 100, dtype=torch.int32))

"""A sound gives the same row, the same note or the same error as file, content, array and dict of the Hub."""

import io
import os
import re
import time
import types
import warnings

import numpy as np
import pytest
import soundfile
import torch

from modeling_msmaml import MSMAMLFeatureExtractor, MSMAMLProcessor
from modeling_msmaml.inputs.notes import UnreadableInput
from modeling_msmaml.inputs.read_audio import is_sound
from modeling_msmaml.inputs.reading import read

RATE, LENGTH = 16_000, 8_000
PROCESSOR = MSMAMLProcessor(MSMAMLFeatureExtractor(RATE, LENGTH / RATE))
WAVE = 0.5 * np.sin(np.arange(LENGTH) / 3)
EXPECTED = np.round(WAVE * 32767).astype(int)
LATER = np.full(LENGTH, np.nan)  # what the model does not read
TENSOR = torch.from_numpy(WAVE)
HIDDEN = np.ma.masked_array(WAVE, np.arange(LENGTH) % 7 == 0)


def encoded(samples: np.ndarray, kind: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return stream.getvalue()


def read_one(sound, sampling_rate=RATE) -> tuple[np.ndarray, str]:
    """Its row, and what is warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        row = read([sound], "audio", PROCESSOR, sampling_rate)[0].numpy().astype(int)
    return row, " ".join(str(warning.message) for warning in caught)


# Name -> waveform, how far it may be off (int16), and the note.
WAVEFORMS = {
    "list": (list(WAVE), 0, ""),
    "float16": (WAVE.astype(np.float16), 8, ""),
    "long double": (WAVE.astype(np.longdouble), 0, ""),
    "big endian float": (WAVE.astype(">f4"), 0, ""),
    "big endian int16": ((WAVE * 32767).astype(">i2"), 1, ""),
    "big endian int32": ((WAVE * 2**31).astype(">i4"), 1, ""),
    "read only": (np.frombuffer(WAVE.astype(np.float32).tobytes(), np.float32), 0, ""),
    "reversed twice": (WAVE[::-1].copy()[::-1], 0, ""),
    "one column": (WAVE[:, None], 0, ""),
    "nothing masked": (np.ma.masked_array(WAVE), 0, ""),
    "int8": (np.round(WAVE * 127).astype(np.int8), 300, ""),
    "uint8": (np.round(WAVE * 127 + 128).astype(np.uint8), 300, ""),
    "uint16": (np.round(WAVE * 32767 + 32768).astype(np.uint16), 2, ""),
    "int32": ((WAVE * 2**31).astype(np.int32), 1, ""),
    "quiet int32, the upper bytes": ((WAVE * 2**14).astype(np.int32) * 2**16, 16384, ""),
    "24 bits, the upper bytes": ((WAVE * 2**23).astype(np.int32) * 256, 1, ""),
    "24 bits as numbers": ((WAVE * 2**23).astype(np.int32), 1, r"taken for samples of these: .*a waveform \(24 bits"),
    "16 bits as numbers": ((WAVE * 2**15).astype(np.int32), 2, r"taken for samples of these: .*a waveform \(16 bits"),
    "float of int16": (WAVE * 32767, 1, "divided by 32768: .*a waveform"),
    "float of uint8": (np.round(WAVE * 127 + 128), 300, "around 128 are taken for unsigned 8 bits: .*a waveform"),
    "quiet float of uint8": (np.round(WAVE * 4 + 128), 16384, "around 128 are taken for unsigned 8 bits"),
    "float of uint16": (np.round(WAVE * 32767 + 32768), 2, "around 32768 are taken for unsigned 16 bits"),
    "opposite phases": (np.stack([WAVE, -WAVE]), 0, r"opposite phase .*a waveform \(channel 1\)"),
    "nearly opposite": (np.stack([-0.9 * WAVE, WAVE], axis=1), 0, r"opposite phase .*\(channel 2\)"),
    "opposite, offset": (np.stack([WAVE + 0.01, 0.01 - WAVE]), 400, "opposite phase"),
    "int16 of opposite phases": ((np.stack([WAVE, -WAVE]) * 32767).astype(np.int16), 1, "opposite phase"),
    "one of two is silent": (np.stack([2 * WAVE, 0 * WAVE]), 1, ""),
    "not finite where it does not count": (np.concatenate([WAVE, LATER, LATER]), 0, "the first 0.5 s"),
    "not finite at once after it": (np.concatenate([WAVE, LATER]), 0, "the first 0.5 s"),
    "masked where it does not count": (np.ma.masked_invalid(np.concatenate([WAVE, LATER, LATER])), 0, "first 0.5 s"),
    "tensor that needs a gradient": (TENSOR.clone().requires_grad_(), 0, ""),
    "bfloat16": (TENSOR.bfloat16(), 70, ""),
    "float8": (TENSOR.to(torch.float8_e4m3fn), 1100, ""),
    "negated view": ((TENSOR * -1j).conj().imag, 0, ""),
}
# Waveform, and the error.
REFUSED = {
    "masked": (HIDDEN, r"inputs\[0\]: a waveform has masked samples: fill the masked values"),
    "list of masked channels": ([HIDDEN, HIDDEN], "has masked samples"),
    "sparse": (TENSOR.to_sparse(), "is a sparse tensor: give waveform.to_dense"),
    "compressed sparse": (TENSOR[None].to_sparse_csr(), "is a sparse tensor"),
    "meta": (TENSOR.to("meta"), "is a tensor without values"),
    "complex": (TENSOR + 0j, "is a complex tensor"),
    "conjugated": ((TENSOR + 0j).conj(), "is a complex tensor"),
    "complex array": (WAVE + 0j, "samples of type complex128"),
    "nested": (torch.nested.nested_tensor([TENSOR]), "is a nested tensor"),
    "bool": (WAVE > 0, "samples of type bool"),
    "objects": ([None, 0.1], "samples of type object"),
    "strings": (np.array(["a", "b"]), "samples of type <U1"),
    "int64": ((WAVE * 2**15).astype(np.int64), r"int64, which does not tell their scale: .*astype\('int16'\)"),
    "int64 tensor": (TENSOR.long(), "int64, which does not tell"),
    "uint32": (np.zeros(LENGTH, np.uint32), "uint32, which does not tell"),
    "floats cast to uint8": (abs(2 * WAVE).astype(np.uint8), "swing around 128, but their mean is 0.0"),
    "rectified": (abs(WAVE) * 200, "floats from 0 to 99.9999, but a waveform swings around 0"),
    "beyond every scale": (WAVE * 1e300, r"reaches 5e\+299, but floats are in \[-1, 1\]: divide"),
    "not finite": (np.append(WAVE[:50], np.nan), "not finite, the first of them in sample 50"),
    "infinite in one channel": (np.stack([WAVE, np.full(LENGTH, np.inf)]), "not finite, the first of them in sample 0"),
    "empty": (WAVE[:0], r"has shape \(0,\)"),
    "no channels": (np.zeros((0, 5)), r"has shape \(0, 5\)"),
    "batch": (WAVE[None, None], r"has shape \(1, 1, 8000\); .* several sounds are a list"),
    "either order": (np.ones((10, 6)), r"of shape \(10, 6\) may be"),
    "ragged": ([[0.1, 0.2], [0.3]], "a list, is not an array of numbers"),
    "a number": (0.5, "is a float, of shape"),
    "nothing": (None, "is a NoneType, of shape"),
    "open file": (io.BytesIO(b"RIFF"), "cannot decode the sound in 4 bytes"),
}
NOTED = {
    "cast to integers": (np.sign(WAVE).astype(np.int16), "none is beyond 1 .*a waveform"),
    "clipped": (WAVE * 12, r"beyond \[-1, 1\] are clipped: .*a waveform \(6\)"),
    "in [0, 1]": (WAVE + 0.5, r"samples that lie in \[0, 1\] may need"),
    "constant": (np.full(LENGTH, 0.3), r"all the same is silence: .*\(0.3\)"),
    "constant in many channels": (np.full((64, LENGTH), 0.1), "^(?!.*opposite).*all the same is silence"),
    "one sample": (WAVE[1:2], "all the same is silence"),
    "zeros": (np.zeros(LENGTH, np.int16), "nothing but silence"),
}


@pytest.mark.parametrize("name", WAVEFORMS)
def test_waveforms_of_any_type(name):
    waveform, tolerance, note = WAVEFORMS[name]
    row, warned = read_one(waveform)
    assert np.abs(row - EXPECTED).max() <= tolerance + 1 and row.any()
    assert re.search(note, warned) if note else not warned


@pytest.mark.parametrize("name", REFUSED)
def test_waveforms_that_are_refused(name):
    waveform, message = REFUSED[name]
    with pytest.raises(UnreadableInput, match=message):
        read_one(waveform)


@pytest.mark.parametrize("name", NOTED)
def test_waveforms_that_are_odd(name):
    with pytest.warns(UserWarning, match=NOTED[name][1]):
        read([NOTED[name][0]], "audio", PROCESSOR, RATE)


def test_only_what_counts_of_a_long_waveform_is_converted():
    hour = np.zeros(3_600 * RATE)
    hour[:LENGTH] = WAVE
    start = time.process_time()
    with pytest.warns(UserWarning, match=r"\(3600.0 s\)"):
        assert np.abs(read([hour], "audio", PROCESSOR, RATE)[0].numpy() - EXPECTED).max() <= 1
    assert time.process_time() - start < 0.1, "converting all of it takes longer"


def test_several_sounds_of_one_call_are_told_apart():
    extractor = PROCESSOR.feature_extractor
    with pytest.raises(UnreadableInput, match=r"^audio\[1\]: a waveform has masked samples"):
        extractor([WAVE, HIDDEN], sampling_rate=RATE)
    with pytest.warns(UserWarning, match=r"silence: audio\[1\]: a waveform$"):
        extractor([WAVE, 0 * WAVE], sampling_rate=RATE)


# Files, by path, content and the dict in which `datasets` stores them

# Name -> kind, subtype, tolerance (int16); the lossy ones keep the level, not the samples.
KINDS_OF_FILES = {
    "24 bits": ("WAV", "PCM_24", 1),
    "float64": ("WAV", "DOUBLE", 1),
    "8 bits": ("WAV", "PCM_U8", 300),
    "mu-law": ("WAV", "ULAW", 600),
    "A-law": ("WAV", "ALAW", 600),
    "RF64": ("RF64", None, 1),
    "W64": ("W64", None, 1),
    "AIFF": ("AIFF", None, 1),
    "AIFF, 24 bits": ("AIFF", "PCM_24", 1),
    "FLAC": ("FLAC", None, 1),
    "FLAC, 24 bits": ("FLAC", "PCM_24", 1),
    "MP3": ("MP3", None, 2_000),
    "Vorbis": ("OGG", "VORBIS", 3_000),
}


def forms(content: bytes, path) -> list:
    path.write_bytes(content)
    return [
        *(path, str(path), content, bytearray(content), memoryview(content)),
        *({"bytes": content, "path": None}, {"bytes": content, "path": "x.bin"}, {"bytes": None, "path": str(path)}),
    ]


@pytest.mark.parametrize("name", KINDS_OF_FILES)
def test_files_of_any_kind_through_every_door(name, tmp_path):
    kind, subtype, tolerance = KINDS_OF_FILES[name]
    rows = [read_one(form)[0] for form in forms(encoded(WAVE, kind, subtype), tmp_path / "strange.wav")]
    assert all(np.array_equal(row, rows[0]) for row in rows)
    assert np.abs(rows[0] - EXPECTED).max() <= tolerance


def test_values_that_do_not_count_in_a_file():
    assert np.abs(read_one(encoded(np.append(WAVE, np.nan), subtype="FLOAT"))[0] - EXPECTED).max() <= 1


def test_opposite_phases_in_a_file(tmp_path):
    content = encoded(np.stack([0.9 * WAVE, -WAVE], axis=1))
    for form in forms(content, tmp_path / "stereo.wav"):
        row, warned = read_one(form)
        assert np.abs(row + EXPECTED).max() <= 1 and "(channel 2)" in warned


FILES_REFUSED = {
    "not finite": (encoded(np.append(WAVE[1:], np.nan), subtype="FLOAT"), "has values that are not finite"),
    "scale of int16": (encoded(WAVE * 32767, subtype="FLOAT"), "reaches 16383.5, but floats are in"),
    "cut FLAC": (encoded(WAVE, "FLAC")[:2000], "cannot decode the sound"),
    "cut Vorbis": (encoded(WAVE, "OGG")[:1500], "cannot decode the sound"),
    "m4a": (b"\0\0\0\x1cftypM4A " + bytes(99), "Format not recognised; convert it to one of these kinds: .wav"),
    "empty": (b"", "cannot decode the sound"),
}


@pytest.mark.parametrize("name", FILES_REFUSED)
def test_files_are_refused_by_name(name, tmp_path):
    content, message = FILES_REFUSED[name]
    path = tmp_path / "strange.m4a"
    path.write_bytes(content)
    for form in (path, {"bytes": None, "path": str(path)}, {"bytes": content, "path": "strange.m4a"}):
        with pytest.raises(UnreadableInput, match=rf"(?s)^inputs\[0\]: .*strange\.m4a.*{message}|{message}.*strange"):
            read_one(form)
    with pytest.raises(UnreadableInput, match=rf"{message}|{len(content)} bytes") as error:
        read_one(content)
    assert "object at 0x" not in str(error.value)


@pytest.mark.timeout(10)
def test_what_is_no_regular_file_is_not_opened(tmp_path):
    pipe = tmp_path / "f.wav"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(UnreadableInput, match=f"{path}: it is a folder, a pipe or a device, not a file"):
            read_one(path)
        assert not is_sound(path)
    for missing in ("a\0.wav", "a" * 5_000, str(tmp_path / "none.wav")):
        with pytest.raises(FileNotFoundError, match="no sound file at"):
            read_one(missing)


def test_files_that_hold_less_or_more_than_is_read():
    whole = encoded(WAVE, "MP3")
    assert "ends before the length that its header states" in read_one(whole[: len(whole) // 2])[1]
    assert "several streams in an Ogg file" in read_one(encoded(WAVE[:3_000], "OGG") * 2)[1]
    assert not read_one(encoded(WAVE[:3_000], "OGG"))[1]


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "SVX"])
def test_files_that_were_cut(kind, tmp_path):
    whole = encoded(WAVE, kind)
    cut = whole[: len(whole) // 4]
    for form in forms(cut, tmp_path / "cut.wav"):
        row, warned = read_one(form)
        assert re.search(r"ends before the length that its header states: .*\(0.1 of 0.5 s\)", warned)
        assert np.abs(row[:1_800] - EXPECTED[:1_800]).max() <= 1
    assert not read_one(whole)[1] and "ends before" not in read_one(whole + b"more")[1]


@pytest.mark.parametrize("stated", [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_lengths_that_streaming_programs_write_state_none(stated):
    content = bytearray(encoded(WAVE))
    for place in (4, content.index(b"data") + 4):
        content[place : place + 4] = stated.to_bytes(4, "little")
    row, warned = read_one(bytes(content))
    assert np.abs(row - EXPECTED).max() <= 1 and not warned


@pytest.mark.parametrize("length", [LENGTH // 2, LENGTH, 40 * LENGTH])
def test_a_flac_stream_of_unknown_length(length, tmp_path):
    content = bytearray(encoded(np.resize(WAVE, length), "FLAC"))
    content[21] &= 0xF0  # the number of samples, of 36 bits
    content[22:26] = bytes(4)
    for form in forms(bytes(content), tmp_path / "streamed.flac"):
        row, warned = read_one(form)
        assert np.abs(row - EXPECTED)[:length].max() <= 1
        assert ("the rest does not count" in warned) == (length > LENGTH)


def test_many_channels_at_a_high_rate_are_mixed_as_they_are_decoded():
    silent, rate = np.zeros((48_000, 60), np.float32), 192_000
    silent[:, 5] = 0.5
    silent[::2, 5] = -0.5
    row, warned = read_one(encoded(silent, rate=rate))
    assert "opposite" not in warned and not row[4_100:].any()


# Dicts and decoders of `datasets`


def test_the_rate_of_a_dict():
    for rate, argument in ((RATE, None), (RATE, 8_000), (None, RATE)):
        row, _ = read_one({"array": WAVE, "sampling_rate": rate}, argument)
        assert np.abs(row - EXPECTED).max() <= 1
    assert np.abs(read_one({"array": WAVE})[0] - EXPECTED).max() <= 1
    with pytest.raises(UnreadableInput, match="sampling_rate is needed for waveforms, .* beside 'array'"):
        read_one({"array": WAVE, "path": "a.wav"}, None)


@pytest.mark.parametrize("item", [{}, {"bytes": None, "path": None}, {"bytes": 5}, {"array": None}])
def test_dicts_without_a_sound(item):
    with pytest.raises(UnreadableInput, match="a dict"):
        read_one(item)


class Decoder:
    """What `datasets` gives for a sound, as far as it is used."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples, self.asked = torch.from_numpy(samples)[None].float(), 0.0
        self.metadata = types.SimpleNamespace(duration_seconds_from_header=len(samples) / RATE)

    def get_all_samples(self):
        return self.get_samples_played_in_range(0.0, self.metadata.duration_seconds_from_header)

    def get_samples_played_in_range(self, start: float, stop: float):
        self.asked = stop
        data = self.samples[:, round(start * RATE) : round(stop * RATE)]
        return types.SimpleNamespace(data=data, sample_rate=RATE)


def test_decoders_of_datasets_decode_what_is_used():
    short, long = Decoder(WAVE), Decoder(np.concatenate([WAVE, np.zeros(60 * RATE)]))
    for decoder in (short, long):
        row, warned = read_one(decoder, None)
        assert np.abs(row - EXPECTED).max() <= 1 and decoder.asked < 1
        assert ("(60.5 s)" in warned) == (decoder is long)
    short.get_all_samples = lambda: 1 / 0
    with pytest.raises(UnreadableInput, match="cannot decode the sound in a sound of `datasets`: division"):
        read_one(short, None)

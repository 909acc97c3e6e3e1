"""From a person's files, arrays, strings and images to the raw integers that the model takes.

The data builders call the same functions, so that a file gives the same row whichever way it comes in.
"""

import io
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio
from jaxtyping import Float32, Int16, Int32, UInt8
from PIL import Image, UnidentifiedImageError
from transformers import BatchFeature, PreTrainedTokenizerBase, PreTrainedTokenizerFast, ProcessorMixin
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.image_processing_base import ImageProcessingMixin

_INT16_MAX = 32767


def read_audio(
    source: str | os.PathLike | bytes, name: str | None = None
) -> tuple[Float32[np.ndarray, "channels samples"], int]:
    """Decodes a sound file (.wav, .flac, .ogg, .mp3).

    Args:
        source: a path, or the content of a file.
        name: of the content, for errors.

    Returns:
        The waveform in [-1, 1] and its sampling rate in Hz.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be decoded, or holds no samples; the message names the file.
    """
    name = name or (f"{len(source)} bytes" if isinstance(source, bytes) else str(source))
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


def encode_audio(
    waveform: np.ndarray, sampling_rate: int, target_rate: int, num_samples: int
) -> Int16[np.ndarray, " num_samples"]:
    """Mono by mean, resampled, exactly `num_samples` long (zeros appended, or cut), as int16.

    Args:
        waveform: (samples,) or (channels, samples); floats in [-1, 1] (beyond is clipped) or int16.
        sampling_rate: of the waveform, Hz.
        target_rate: of the result, Hz.
        num_samples: of the result.

    Raises:
        ValueError: another shape or type, no samples, or values that are not finite.
    """
    waveform = np.asarray(waveform)
    if waveform.dtype == np.int16:
        waveform = waveform.astype(np.float32) / _INT16_MAX
    if not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"a waveform is float in [-1, 1] or int16, not {waveform.dtype}")
    if waveform.ndim not in (1, 2) or waveform.size == 0:
        raise ValueError(f"a waveform has shape (samples,) or (channels, samples), not {waveform.shape}")
    if not np.isfinite(waveform).all():
        raise ValueError("the waveform has values that are not finite")
    mono = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)).reshape(-1, waveform.shape[-1]).mean(0)
    if sampling_rate != target_rate:
        mono = _resampler(int(sampling_rate), int(target_rate))(mono)
    samples = np.round(np.clip(mono.numpy()[:num_samples], -1.0, 1.0) * _INT16_MAX).astype(np.int16)
    return np.pad(samples, (0, num_samples - len(samples)))


@lru_cache(maxsize=8)
def _resampler(sampling_rate: int, target_rate: int) -> torchaudio.transforms.Resample:
    if sampling_rate < 1:
        raise ValueError(f"sampling_rate={sampling_rate} is not possible; it must be positive (Hz)")
    return torchaudio.transforms.Resample(sampling_rate, target_rate)


def encode_text(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int
) -> Int32[np.ndarray, "texts length"]:
    """Token ids of the first `length` tokens of each text, 0 ([PAD]) after its end."""
    encoded = np.zeros((len(texts), length), dtype=np.int32)
    for row, tokens in zip(encoded, token_ids(tokenizer, texts), strict=True):
        row[: len(tokens)] = tokens[:length]
    return encoded


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """All token ids of each text, without special tokens."""
    return tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]


def encode_image(image: Any, size: int) -> UInt8[np.ndarray, "3 size size"]:
    """RGB, resized (bilinear, anti-aliased, aspect ratio not kept) to `size` x `size`, channels first, uint8.

    Args:
        image: a path, the content of a file, a PIL image, or an array: (height, width), (height, width, 3) or
            (3, height, width), uint8 or float in [0, 1].
        size: of the result, pixels. An image of this size is not touched.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be decoded (the message names the file), or an array of another shape, type or range.
    """
    if isinstance(image, (str, os.PathLike, bytes)):
        image = _open_image(image)
    pixels = _rgb_array(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if pixels.shape[:2] != (size, size):
        pixels = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _open_image(source: str | os.PathLike | bytes) -> Image.Image:
    name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {name}") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"cannot decode the image in {name}: {error}") from error


def _rgb_array(image: Any) -> UInt8[np.ndarray, "height width 3"]:
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    elif pixels.ndim == 3 and pixels.shape[2] != 3 and pixels.shape[0] == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        raise ValueError(
            f"an image has shape (height, width), (height, width, 3) or (3, height, width), not {pixels.shape}"
        )
    if np.issubdtype(pixels.dtype, np.floating):
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(f"float pixels are in [0, 1]; these are in [{pixels.min()}, {pixels.max()}]")
        pixels = np.round(pixels * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels are uint8 or float in [0, 1], not {pixels.dtype}")
    return np.ascontiguousarray(pixels)


class MSMAMLFeatureExtractor(FeatureExtractionMixin):
    """Sounds to int16 samples.

    Args:
        sampling_rate: of the model's input, Hz.
        duration: of the model's input, seconds; shorter sounds get zeros appended, longer ones are cut.
    """

    model_input_names = ["input_values"]

    def __init__(self, sampling_rate: int = 16_000, duration: float = 5.0, **kwargs):
        super().__init__(**kwargs)
        if sampling_rate < 1 or duration <= 0:
            raise ValueError(f"sampling_rate={sampling_rate} (Hz) and duration={duration} (s) must be positive")
        self.sampling_rate = sampling_rate
        self.duration = duration

    @property
    def num_samples(self) -> int:
        """Samples of the model's input."""
        return round(self.sampling_rate * self.duration)

    def __call__(self, audio: Any, sampling_rate: int | None = None, return_tensors: str | None = None) -> BatchFeature:
        """Encodes one or several sounds.

        Args:
            audio: a path, the bytes of a file or a waveform (see `encode_audio`), or a list of these.
            sampling_rate: of waveforms, Hz; required for them. Files know their own.
            return_tensors: `"np"` (default) or `"pt"`.

        Returns:
            `input_values`: int16 (sounds, num_samples).

        Raises:
            ValueError: a waveform without `sampling_rate`, or input that cannot be read.
            FileNotFoundError: no such file.
        """
        sounds = audio if isinstance(audio, (list, tuple)) else [audio]
        rows = [self._encode(sound, sampling_rate) for sound in sounds]
        return BatchFeature({"input_values": np.stack(rows)}, tensor_type=return_tensors or "np")

    def _encode(self, sound: Any, sampling_rate: int | None) -> Int16[np.ndarray, " num_samples"]:
        if isinstance(sound, (str, os.PathLike, bytes)):
            waveform, sampling_rate = read_audio(sound)
        elif sampling_rate is None:
            raise ValueError(
                f"sampling_rate is needed for waveforms; the model works at {self.sampling_rate} Hz and resamples"
            )
        else:
            waveform = sound
        return encode_audio(waveform, sampling_rate, self.sampling_rate, self.num_samples)


class MSMAMLImageProcessor(ImageProcessingMixin):
    """Images to uint8 pixels.

    Args:
        size: height and width of the model's input, pixels.
    """

    model_input_names = ["pixel_values"]

    def __init__(self, size: int = 32, **kwargs):
        super().__init__(**kwargs)
        if size < 1:
            raise ValueError(f"size={size} is not possible; it must be positive (pixels)")
        self.size = size

    def __call__(self, images: Any, return_tensors: str | None = None) -> BatchFeature:
        """Encodes one or several images.

        Args:
            images: a path, the bytes of a file, a PIL image or an array (see `encode_image`), a list of these, or an
                array of several.
            return_tensors: `"np"` (default) or `"pt"`.

        Returns:
            `pixel_values`: uint8 (images, 3, size, size).

        Raises:
            ValueError: input that cannot be read.
            FileNotFoundError: no such file.
        """
        is_batch = isinstance(images, (list, tuple)) or (isinstance(images, np.ndarray) and images.ndim == 4)
        rows = [encode_image(image, self.size) for image in (images if is_batch else [images])]
        return BatchFeature({"pixel_values": np.stack(rows)}, tensor_type=return_tensors or "np")


class _PresentParts:
    """`get_attributes()` of a class lists all parts of a processor, of an instance those that it has."""

    def __get__(self, processor: "MSMAMLProcessor | None", owner: type):
        parts = list(_PARTS)
        return lambda: [part for part in parts if processor is None or getattr(processor, part) is not None]


class MSMAMLProcessor(ProcessorMixin):
    """Everything that must be known to turn a person's own data into the model's input; saved with the model.

    A model without a modality has no part for it.

    Args:
        feature_extractor: for audio.
        image_processor: for images.
        tokenizer: for text; its `model_max_length` is the number of tokens of a sample.

    Raises:
        ValueError: no part at all, or a tokenizer without a usable `model_max_length` or with a padding id other than
            0.
        TypeError: a part of another class.
    """

    get_attributes = _PresentParts()

    def __init__(
        self,
        feature_extractor: MSMAMLFeatureExtractor | None = None,
        image_processor: MSMAMLImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
    ):
        self.chat_template = None
        for part, value in zip(_PARTS, (feature_extractor, image_processor, tokenizer), strict=True):
            if value is not None and not isinstance(value, _PARTS[part]):
                raise TypeError(f"{part} is a {type(value).__name__}; a {_PARTS[part].__name__} is expected")
            setattr(self, part, value)
        if not self.get_attributes():
            raise ValueError(f"a processor needs at least one of {', '.join(_PARTS)}")
        if tokenizer is not None and (tokenizer.model_max_length > 1_000_000 or tokenizer.pad_token_id != 0):
            raise ValueError(
                f"the tokenizer has model_max_length={tokenizer.model_max_length} and pad_token_id="
                f"{tokenizer.pad_token_id}; the first must be the number of tokens of a sample, the second 0"
            )

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        audio: Any = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Encodes inputs of one or several modalities.

        Args:
            images: see `MSMAMLImageProcessor.__call__`.
            text: a string or a list of strings.
            audio: see `MSMAMLFeatureExtractor.__call__`.
            sampling_rate: of waveforms in `audio`, Hz.
            return_tensors: `"np"` (default) or `"pt"`.

        Returns:
            What was asked for: `pixel_values` uint8 (n, 3, size, size), `input_ids` int32 (n, tokens), `input_values`
            int16 (n, samples).

        Raises:
            ValueError: no input, a modality that this processor has no part for, or input that cannot be read.
            FileNotFoundError: no such file.
        """
        if images is None and text is None and audio is None:
            raise ValueError("nothing to process: give images, text or audio")
        for argument, value, part in (
            ("images", images, self.image_processor),
            ("text", text, self.tokenizer),
            ("audio", audio, self.feature_extractor),
        ):
            if value is not None and part is None:
                raise ValueError(
                    f"{argument} was given, but this processor has only {', '.join(self.get_attributes())}"
                )
        encoded = {}
        if images is not None:
            encoded.update(self.image_processor(images))
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            encoded["input_ids"] = encode_text(self.tokenizer, texts, self.tokenizer.model_max_length)
        if audio is not None:
            encoded.update(self.feature_extractor(audio, sampling_rate=sampling_rate))
        return BatchFeature(encoded, tensor_type=return_tensors or "np")

    @property
    def model_input_names(self) -> list[str]:
        """Keys that a call can return."""
        names = {"image_processor": "pixel_values", "tokenizer": "input_ids", "feature_extractor": "input_values"}
        return [names[part] for part in self.get_attributes()]

    def to_dict(self) -> dict[str, Any]:
        """As in `transformers`, with null for every part that is absent."""
        return {**super().to_dict(), **{part: None for part in _PARTS if getattr(self, part) is None}}

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs) -> list:
        """The parts, in the order of `__init__`; the tokenizer has its own files."""
        processor_dict = processor_dict or {}
        parts = [
            None if processor_dict.get(part) is None else _PARTS[part].from_dict(processor_dict[part])
            for part in ("feature_extractor", "image_processor")
        ]
        has_tokenizer = processor_dict.get("tokenizer", "in its own files") is not None
        kwargs.pop("trust_remote_code", None)
        tokenizer = (
            PreTrainedTokenizerFast.from_pretrained(pretrained_model_name_or_path, **kwargs) if has_tokenizer else None
        )
        return [*parts, tokenizer]


_PARTS = {
    "feature_extractor": MSMAMLFeatureExtractor,
    "image_processor": MSMAMLImageProcessor,
    "tokenizer": PreTrainedTokenizerFast,
}

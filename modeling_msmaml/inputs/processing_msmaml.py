"""From a person's files, arrays, strings and images to the raw integers that the model takes.

The data builders call the same functions, so that a file gives the same row whichever way it comes in.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int16, UInt8
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.image_processing_base import ImageProcessingMixin

from .kinds import KINDS
from .notes import Notes
from .read_audio import read_audio
from .read_image import read_image
from .read_text import encode_texts


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
            audio: a path, the bytes of a file or a waveform, or what else `read_audio` takes, or a list of these.
            sampling_rate: of waveforms, Hz; required for them. Files know their own.
            return_tensors: `"np"` (default) or `"pt"`.

        Returns:
            `input_values`: int16 (sounds, num_samples).

        Raises:
            ValueError: a waveform without `sampling_rate`, or input that cannot be read.
            FileNotFoundError: no such file.
        """
        sounds, notes = audio if isinstance(audio, (list, tuple)) else [audio], Notes()
        rows = [self.row(sound, sampling_rate, notes=notes) for sound in sounds]
        notes.warn()
        return BatchFeature({"input_values": np.stack(rows)}, tensor_type=return_tensors or "np")

    def row(
        self, sound: Any, sampling_rate: int | None = None, name: str | None = None, notes: Notes | None = None
    ) -> Int16[np.ndarray, " num_samples"]:
        """The row of one sound, see `read_audio`."""
        return read_audio(sound, self.sampling_rate, self.num_samples, sampling_rate, name, notes)


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
            images: a path, the bytes of a file, or what else `read_image` takes, a list of these, or an
                array of several.
            return_tensors: `"np"` (default) or `"pt"`.

        Returns:
            `pixel_values`: uint8 (images, 3, size, size).

        Raises:
            ValueError: input that cannot be read.
            FileNotFoundError: no such file.
        """
        is_batch = isinstance(images, (list, tuple)) or (isinstance(images, np.ndarray) and images.ndim == 4)
        rows = [self.row(image) for image in (images if is_batch else [images])]
        return BatchFeature({"pixel_values": np.stack(rows)}, tensor_type=return_tensors or "np")

    def row(self, image: Any, name: str | None = None) -> UInt8[np.ndarray, "3 size size"]:
        """The row of one picture, see `read_image`."""
        return read_image(image, self.size, name)


class _PresentParts:
    """`get_attributes()` of a class lists all parts of a processor, of an instance those that it has."""

    def __get__(self, processor: "MSMAMLProcessor | None", owner: type):
        parts = list(_CLASS_OF_PART)
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
        for part, value in zip(_CLASS_OF_PART, (feature_extractor, image_processor, tokenizer), strict=True):
            if value is not None and not isinstance(value, _CLASS_OF_PART[part]):
                raise TypeError(f"{part} is a {type(value).__name__}; a {_CLASS_OF_PART[part].__name__} is expected")
            setattr(self, part, value)
        if not self.get_attributes():
            raise ValueError(f"a processor needs at least one of {', '.join(_CLASS_OF_PART)}")
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
            texts, notes = [text] if isinstance(text, str) else list(text), Notes()
            encoded["input_ids"] = encode_texts(self.tokenizer, texts, self.tokenizer.model_max_length, notes=notes)
            notes.warn()
        if audio is not None:
            encoded.update(self.feature_extractor(audio, sampling_rate=sampling_rate))
        return BatchFeature(encoded, tensor_type=return_tensors or "np")

    @property
    def model_input_names(self) -> list[str]:
        """Keys that a call can return."""
        keys = {kind.part: kind.key for kind in KINDS.values()}
        return [keys[part] for part in self.get_attributes()]

    def to_dict(self) -> dict[str, Any]:
        """As in `transformers`, with null for every part that is absent."""
        return {**super().to_dict(), **{part: None for part in _CLASS_OF_PART if getattr(self, part) is None}}

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path, processor_dict=None, **kwargs) -> list:
        """The parts, in the order of `__init__`; the tokenizer has its own files."""
        processor_dict = processor_dict or {}
        parts = [
            None if processor_dict.get(part) is None else _CLASS_OF_PART[part].from_dict(processor_dict[part])
            for part in ("feature_extractor", "image_processor")
        ]
        has_tokenizer = processor_dict.get("tokenizer", "in its own files") is not None
        kwargs.pop("trust_remote_code", None)
        tokenizer = (
            PreTrainedTokenizerFast.from_pretrained(pretrained_model_name_or_path, **kwargs) if has_tokenizer else None
        )
        return [*parts, tokenizer]


_CLASS_OF_PART = {
    "feature_extractor": MSMAMLFeatureExtractor,
    "image_processor": MSMAMLImageProcessor,
    "tokenizer": PreTrainedTokenizerFast,
}

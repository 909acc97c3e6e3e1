"""The processor that is saved with a model. It encodes files, arrays, strings and images as the raw integers that the
model takes.

The data builders call the same functions, so that a file gives the same row in training and in use.
"""

import copy
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int16, UInt8
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.image_processing_utils import BaseImageProcessor

from .kinds import KINDS, plain
from .notes import Notes, UnreadableInput
from .part_arguments import PADDINGS, ImageArguments, changed, is_count, is_positive, own_arguments, text_arguments
from .read_audio import read_audio
from .read_image import read_image
from .read_text import encode_texts, read_texts
from .reading import as_inputs, stacked

Part = TypeVar("Part")

MOST_SECONDS = 600.0  # of a sound that is taken whole; encoding it takes about 1.5 GB
MOST_TOKENS = 8192  # of a text that is taken whole


def _are_sounds(shape: tuple[int, ...]) -> bool:
    """Whether an array is several sounds. A classifier reads one in each row; a file has a row for each channel."""
    if len(shape) == 2 and 1 < shape[0] < shape[1]:
        raise ValueError(
            f"audio of shape {shape} may be {shape[0]} sounds or the {shape[0]} channels of one: give list(audio) for "
            "several sounds, [audio] for one"
        )
    return False


def _are_pictures(shape: tuple[int, ...]) -> bool:
    """Whether an array is several pictures. A classifier reads one in each row."""
    if len(shape) == 3 and shape[0] > 1 and shape[2] not in (1, 3, 4):
        raise ValueError(
            f"images of shape {shape} may be {shape[0]} grey pictures or the {shape[0]} channels of one: give "
            "list(images) for several pictures, [images] for one"
        )
    return len(shape) == 4


class MSMAMLFeatureExtractor(FeatureExtractionMixin):
    """Encodes sounds as int16 samples.

    Args:
        sampling_rate: sampling rate of the model's input, Hz.
        duration: duration of the model's input, seconds. Zeros are appended to shorter sounds; longer ones are cut.
            With `None` sounds are taken whole, up to 600 s: rows are as long as their sound, and of several sounds
            in one batch the shorter have zeros at their end.

    Raises:
        ValueError: an argument is not positive.
    """

    model_input_names = ["input_values"]

    def __init__(self, sampling_rate: int = 16_000, duration: float | None = 5.0, **kwargs: Any):
        super().__init__(**kwargs)
        if not is_count(sampling_rate) or (duration is not None and not is_positive(duration)):
            raise ValueError(f"sampling_rate={sampling_rate} (Hz) and duration={duration} (s) must be positive")
        self.sampling_rate = sampling_rate
        self.duration = duration

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; arguments of `__init__` among `kwargs` are checked as there."""
        own = {name: kwargs.pop(name) for name in own_arguments(cls) if name in kwargs}
        return super().from_dict({**feature_extractor_dict, **own}, **kwargs)

    @property
    def num_samples(self) -> int:
        """The number of samples of the model's input, at most."""
        return round(self.sampling_rate * (MOST_SECONDS if self.duration is None else self.duration))

    def __call__(
        self, audio: Any, sampling_rate: int | None = None, return_tensors: str | None = None, **kwargs: Any
    ) -> BatchFeature:
        """Encodes one or several sounds.

        Args:
            audio: a sound, or a list or column of sounds: paths, contents of files, waveforms, and whatever
                `read_audio` takes. Of a sound, only the first `duration` seconds are decoded and checked. An array of
                shape (samples,) or (samples, channels) is one sound; one of shape (rows, samples) may be several sounds
                or the channels of one, and is refused: give a list.
            sampling_rate: sampling rate of waveforms, Hz, for which it is required. Files have their own.
            return_tensors: `"np"` (default) or `"pt"`.
            kwargs: `duration`, in place of that of the feature extractor.

        Returns:
            A batch with `input_values`, int16 (sounds, num_samples).

        Raises:
            ValueError: a waveform is given without `sampling_rate`, a sound cannot be read, or there is none.
            FileNotFoundError: there is no such file.
        """
        if kwargs:
            own = changed(self, {"duration"}, kwargs)
            return own(audio, sampling_rate=sampling_rate, return_tensors=return_tensors)
        (sounds, _), rows, notes = as_inputs(audio, "audio", _are_sounds), [], Notes()
        for number, sound in enumerate(sounds):
            notes.prefix = f"audio[{number}]: " if len(sounds) > 1 else ""
            try:
                rows.append(self.row(plain(sound), sampling_rate, notes=notes))
            except UnreadableInput as error:
                raise UnreadableInput(f"{notes.prefix}{error}") from error
        notes.warn()
        return BatchFeature({"input_values": stacked(rows, "audio", "audio")}, tensor_type=return_tensors or "np")

    def row(
        self, sound: Any, sampling_rate: int | None = None, name: str | None = None, notes: Notes | None = None
    ) -> Int16[np.ndarray, " samples"]:
        """Encodes one sound, see `read_audio`."""
        padded = self.duration is not None
        return read_audio(sound, self.sampling_rate, self.num_samples, sampling_rate, name, notes, padded)


class MSMAMLImageProcessor(BaseImageProcessor):
    """Encodes images as uint8 pixels.

    Args:
        size: height and width of the model's input, pixels. With `None` pictures keep their aspect and their size, up
            to 512 pixels on the shorter side and 4,096 on the longer.

    Raises:
        ValueError: the size is not positive.
    """

    model_input_names = ["pixel_values"]
    valid_kwargs: Any = ImageArguments
    size: int | None = 32  # a `None` that was asked for is saved, since it differs

    def __init__(self, size: int | None = 32, **kwargs: Any):
        super().__init__(**kwargs)
        if size is not None and not is_count(size):
            raise ValueError(f"size={size} must be positive (pixels), one integer for height and width")
        self.size = size

    def __call__(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """As `preprocess`."""
        return self.preprocess(images, return_tensors, **kwargs)

    def preprocess(self, images: Any, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """Encodes one or several images.

        Args:
            images: an image, or a list or column of images: paths, contents of files, and whatever `read_image` takes.
                An array or tensor of four dimensions holds several images. One of shape (3 or 4, height, width) may be
                several grey images or the channels of one, and is refused: give a list.
            return_tensors: `"np"` (default) or `"pt"`.
            kwargs: `size`, in place of that of the image processor.

        Returns:
            A batch with `pixel_values`, uint8 (images, 3, height, width).

        Raises:
            ValueError: an image cannot be read, or there is none; of several, its position is named. Or images that
                keep their sizes have several.
            FileNotFoundError: there is no such file.
        """
        if kwargs:
            return changed(self, {"size"}, kwargs).preprocess(images, return_tensors)
        (pictures, is_batch), rows, notes = as_inputs(images, "images", _are_pictures), [], Notes()
        for number, image in enumerate(pictures):
            notes.prefix = f"images[{number}]: " if is_batch else ""
            try:
                rows.append(self.row(plain(image), notes=notes))
            except UnreadableInput as error:
                raise UnreadableInput(f"{notes.prefix}{error}") from error
        notes.warn()
        return BatchFeature({"pixel_values": stacked(rows, "image", "images")}, tensor_type=return_tensors or "np")

    def row(self, image: Any, name: str | None = None, notes: Notes | None = None) -> UInt8[np.ndarray, "3 h w"]:
        """Encodes one image, see `read_image`."""
        return read_image(image, self.size, name, notes)


class _PresentParts:
    """
    `get_attributes`, which transformers calls on classes and on instances: on a class it lists all parts of a
    processor, on an instance the parts that it has.
    """

    def __get__(self, processor: "MSMAMLProcessor | None", owner: type) -> Callable[[], list[str]]:
        parts = list(_CLASS_OF_PART)
        return lambda: [part for part in parts if processor is None or getattr(processor, part) is not None]


class MSMAMLProcessor(ProcessorMixin):
    """Encodes a person's own data as the model's input. It has one part per modality and is saved with the model.

    Args:
        feature_extractor: the part for audio.
        image_processor: the part for images.
        tokenizer: the part for text. Its `model_max_length` is the number of tokens of a sample, at most.
        text_padding: `"max_length"`: rows of texts have `model_max_length` tokens; or `"longest"`: they are as long as
            the longest text of a batch.

    Raises:
        ValueError: there is no part, the tokenizer has no usable `model_max_length` or no padding token, or
            `text_padding` is neither.
        TypeError: a part has a wrong class.
    """

    feature_extractor: MSMAMLFeatureExtractor | None
    image_processor: MSMAMLImageProcessor | None
    tokenizer: PreTrainedTokenizerFast | None
    get_attributes: Any = _PresentParts()

    def __init__(
        self,
        feature_extractor: MSMAMLFeatureExtractor | None = None,
        image_processor: MSMAMLImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerFast | None = None,
        text_padding: str = "max_length",
    ):
        self.chat_template = None
        if text_padding not in PADDINGS:
            raise ValueError(f"text_padding={text_padding!r} must be one of {', '.join(PADDINGS)}")
        self.text_padding = text_padding
        for part, value in zip(_CLASS_OF_PART, (feature_extractor, image_processor, tokenizer), strict=True):
            if value is not None and not isinstance(value, _CLASS_OF_PART[part]):
                raise TypeError(f"{part} is a {type(value).__name__}; it must be a {_CLASS_OF_PART[part].__name__}")
            setattr(self, part, value)
        if not self.get_attributes():
            raise ValueError(f"a processor needs at least one of {', '.join(_CLASS_OF_PART)}")
        if tokenizer is not None and (tokenizer.model_max_length > 1_000_000 or tokenizer.pad_token_id is None):
            raise ValueError(
                f"the tokenizer has model_max_length={tokenizer.model_max_length} and pad_token_id="
                f"{tokenizer.pad_token_id}; the former must be the number of tokens of a sample, the latter a token"
            )

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        audio: Any = None,
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        images_kwargs: dict[str, Any] | None = None,
        text_kwargs: dict[str, Any] | None = None,
        audio_kwargs: dict[str, Any] | None = None,
    ) -> BatchFeature:
        """Encodes inputs of one or several modalities.

        Args:
            images: images, see `MSMAMLImageProcessor.preprocess`.
            text: a text, or a list or column of texts: strings, or the `pathlib.Path` of text files. A string is a text
                even if it names a file, which is said in a warning.
            audio: sounds, see `MSMAMLFeatureExtractor.__call__`.
            sampling_rate: sampling rate of waveforms in `audio`, Hz.
            return_tensors: `"np"` (default) or `"pt"`.
            images_kwargs: `size`, in place of that of the image processor.
            text_kwargs: `padding`, in place of `text_padding`, and `max_length`, in place of `model_max_length`.
            audio_kwargs: `duration`, in place of that of the feature extractor, and `sampling_rate` as above.

        Returns:
            A batch with, for each kind of input that is given, `pixel_values`, uint8 (n, 3, h, w), `input_ids`,
            int32 (n, tokens), or `input_values`, int16 (n, samples).

        Raises:
            ValueError: there is no input, the processor has no part for a modality, or an input cannot be read; an
                argument for a modality without input, or an unknown one.
            FileNotFoundError: there is no such file.
        """
        if images is None and text is None and audio is None:
            raise ValueError("nothing to process: give images, text or audio")
        given = {"images": (images, images_kwargs), "text": (text, text_kwargs), "audio": (audio, audio_kwargs)}
        for name, (inputs, arguments) in given.items():
            if arguments and inputs is None:
                raise ValueError(f"{name}_kwargs={arguments} has no effect without {name}")
        image_processor = None if images is None else self._part("images", self.image_processor)
        tokenizer = None if text is None else self._part("text", self.tokenizer)
        feature_extractor = None if audio is None else self._part("audio", self.feature_extractor)
        encoded: dict[str, Any] = {}
        if image_processor is not None:
            encoded.update(image_processor(images, **(images_kwargs or {})))
        if tokenizer is not None and text is not None:
            notes = Notes()
            names, texts = zip(*read_texts(text, "text", notes).items(), strict=True)
            padding, most_tokens = text_arguments(text_kwargs or {}, self.text_padding, tokenizer.model_max_length)
            rows = encode_texts(tokenizer, texts, most_tokens, names, notes)
            longest = np.flatnonzero(rows.any(axis=0))[-1] + 1  # a text has a token
            encoded["input_ids"] = rows[:, :longest] if padding == "longest" else rows
            notes.warn()
        if feature_extractor is not None:
            encoded.update(feature_extractor(audio, **{"sampling_rate": sampling_rate, **(audio_kwargs or {})}))
        return BatchFeature(encoded, tensor_type=return_tensors or "np")

    def _part(self, argument: str, part: Part | None) -> Part:
        """Returns the part that reads an argument, or raises `ValueError` if there is none."""
        if part is None:
            raise ValueError(f"{argument} was given, but this processor has only {', '.join(self.get_attributes())}")
        return part

    @property
    def model_input_names(self) -> list[str]:
        """The keys that the result of a call can have."""
        keys = {kind.part: kind.key for kind in KINDS.values()}
        return [keys[part] for part in self.get_attributes()]

    def to_dict(self) -> dict[str, Any]:
        """Returns the dict of `transformers`, with `None` for every absent part."""
        return {**super().to_dict(), **{part: None for part in _CLASS_OF_PART if getattr(self, part) is None}}

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: str, processor_dict: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        """Loads the parts, in the order of the arguments of `__init__`. The tokenizer has files of its own."""
        processor_dict = processor_dict or {}
        parts = []
        for part in ("feature_extractor", "image_processor"):
            own = {name: kwargs.pop(name) for name in own_arguments(_CLASS_OF_PART[part]) if name in kwargs}
            saved = processor_dict.get(part)
            parts.append(None if saved is None else _CLASS_OF_PART[part].from_dict(saved, **own))
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


def whole_processor(
    modalities: Iterable[str], tokenizer: PreTrainedTokenizerFast | None = None, sampling_rate: int = 16_000
) -> MSMAMLProcessor:
    """
    Returns a processor that takes inputs whole, for models that read inputs of any length and size: sounds of up to
    `MOST_SECONDS`, texts of up to `MOST_TOKENS` tokens, pictures in their own aspect. What is beyond is cut, or scaled
    down, and a cut is said in a warning.

    Args:
        modalities: those that the processor reads, of `"audio"`, `"text"` and `"image"`; others have no part.
        tokenizer: of texts, which is copied; needed for `"text"`.
        sampling_rate: of the model's sounds, Hz.

    Raises:
        ValueError: texts without a tokenizer, none of these modalities, or see [`MSMAMLProcessor`].
    """
    modalities = list(modalities)
    if "text" in modalities:
        if tokenizer is None:
            raise ValueError("modalities has 'text', which needs a tokenizer")
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.model_max_length = MOST_TOKENS
    return MSMAMLProcessor(
        feature_extractor=MSMAMLFeatureExtractor(sampling_rate, duration=None) if "audio" in modalities else None,
        image_processor=MSMAMLImageProcessor(size=None) if "image" in modalities else None,
        tokenizer=tokenizer if "text" in modalities else None,
        text_padding="longest",
    )

"""A fitted classifier as ONNX: encoder and adapted task in one graph, and how inputs are prepared for it in JSON."""

import copy
import dataclasses
import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float, Shaped
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from transformers import ProcessorMixin

from ..inputs.kinds import KINDS
from ..inputs.processing_msmaml import MSMAMLFeatureExtractor, MSMAMLImageProcessor
from ..inputs.read_image import MOST_LONG_SIDE, MOST_SIDE
from ..model.adaptation import AdaptedTasks
from ..model.level_encoder import LARGEST, LevelEncoder
from ..model.level_frontend import LevelFrontend
from ..model.modeling_msmaml import MSMAMLModel

MODEL_FILE, DESCRIPTION_FILE, TOKENIZER_FILE = "model.onnx", "classifier.json", "tokenizer.json"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")
# The encoders of which there is a form without control flow that depends on data: module and class.
_EXPORTED = {
    "transformers": ("exported_texts", "ExportedTexts"),
    "timm": ("exported_pictures", "ExportedPictures"),
    "aisfx": ("exported_sounds", "ExportedSounds"),
}
_CLOSE = 1e-3  # how far a probability of the graph may be from the classifier's own
_LARGEST_FILE = 1_500_000_000  # bytes, beyond which the weights get a file of their own; ONNX allows 2 GB


class Input(NamedTuple):
    """
    What the graph takes of one modality.

    Args:
        dtype: of the rows.
        shape: of one row: a number, or the name of an axis of any length.
        sample: rows of that type and shape.
        preparation: how a row is made of a text, a sound or a picture, as JSON's types.
    """

    dtype: str
    shape: tuple[int | str, ...]
    sample: Shaped[Tensor, "batch ..."]
    preparation: dict[str, Any]


def write_onnx(classifier: Any, folder: Path) -> None:
    """
    Writes a fitted classifier, see [`FewShotClassifier.export`].

    Raises:
        `ModuleNotFoundError`: the extra `export` is not installed.
        `ValueError`: a model that has no form as ONNX.
    """
    _require_extra()
    model, modality = copy.deepcopy(classifier._model).cpu().eval(), classifier.modality_
    taken = _input_of(modality, classifier._processor)
    classes = [_plain_label(label) for label in classifier.classes_.tolist()]
    name = KINDS[modality].key
    description = {
        "format": 1,
        "modality": modality,
        "classes": classes,
        "reject_below": classifier.reject_below,
        "input": {"name": name, "dtype": taken.dtype, "shape": ["batch", *taken.shape]},
        "output": {"name": "probabilities", "dtype": "float32", "shape": ["batch", len(classes)]},
        "preparation": taken.preparation,
    }
    graph = Classified(model, _on_cpu(classifier.adapted_), taken.preparation.get("padding", 0)).eval()
    with torch.no_grad():
        expected = graph(taken.sample)
    axes = [(number, axis) for number, axis in enumerate(("batch", *taken.shape)) if isinstance(axis, str)]
    program = _program(graph, taken.sample, name, {number: torch.export.Dim(axis) for number, axis in axes})
    for key, value in description.items():
        program.model.metadata_props[key] = json.dumps(value)
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    program.save(str(folder / MODEL_FILE), external_data=size > _LARGEST_FILE)
    _check(folder / MODEL_FILE, name, taken.sample, expected)
    if modality == "text":
        _save_tokenizer(classifier._processor, folder / TOKENIZER_FILE)
    (folder / DESCRIPTION_FILE).write_text(json.dumps(description, indent=2) + "\n")


class Classified(nn.Module):
    """
    Maps rows of one modality (batch, ...) to probabilities (batch, classes).

    Args:
        model: on the CPU.
        adapted: the task, one.
        padding: the token with which rows of texts are padded.
    """

    def __init__(self, model: MSMAMLModel, adapted: AdaptedTasks, padding: int = 0):
        super().__init__()
        self.model, self.adapted, self.padding, self.encoder = model, adapted, padding, None
        if model.reads_levels:
            frontend = cast(LevelFrontend, model.frontends[adapted.modality])
            self.encoder = _exported_encoder(frontend.encoder(torch.device("cpu")))
            self.names = list(dict(frontend.recorded["level_sizes"]))

    def forward(self, rows: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch classes"]:
        if self.padding:  # in rows of the model it is 0, see `read_text.row_ids`
            rows = torch.where(rows == self.padding, 0, torch.where(rows == 0, self.padding, rows))
        if self.encoder is not None:
            found = self.encoder(rows)
            levels = torch.cat([found[name].float() for name in self.names], dim=1)
            rows = levels.clamp(-LARGEST, LARGEST).half()  # as encoders round them
        return self.model.classify(self.adapted, rows[None])[0].float().softmax(dim=-1)


def _exported_encoder(encoder: LevelEncoder) -> nn.Module:
    name = encoder.config["encoder"]
    if name not in _EXPORTED:
        raise ValueError(
            f"the encoder {name!r} of {encoder.modality} has no form as ONNX: those that have are "
            f"{', '.join(_EXPORTED)}; save_pretrained keeps the classifier for Python"
        )
    module, exported = _EXPORTED[name]
    return getattr(importlib.import_module(f".{module}", __package__), exported)(encoder)


def _on_cpu(adapted: AdaptedTasks) -> AdaptedTasks:
    fields = {field.name: getattr(adapted, field.name) for field in dataclasses.fields(adapted)}
    return AdaptedTasks(**pytree.tree_map_only(Tensor, lambda tensor: tensor.detach().cpu(), fields))


def _input_of(modality: str, processor: ProcessorMixin | None) -> Input:
    """What the graph takes, as the processor prepares it."""
    if modality not in KINDS:
        raise ValueError(f"modality={modality!r} has no form as ONNX: those that have are {', '.join(KINDS)}")
    part: Any = getattr(processor, KINDS[modality].part)  # it has read the examples
    generator = torch.Generator().manual_seed(0)
    if modality == "text":
        is_whole = getattr(processor, "text_padding", "max_length") == "longest"
        length = 40 if is_whole else part.model_max_length
        preparation = {
            "tokenizer": TOKENIZER_FILE,
            "special_tokens": False,
            "padding": part.pad_token_id,
            "max_tokens": part.model_max_length,
        }
        sample = torch.full((2, length), part.pad_token_id)
        sample[:, : length // 2] = torch.arange(2 * (length // 2)).view(2, -1) % len(part)
        return Input("int64", ("tokens" if is_whole else length,), sample, preparation)
    if modality == "audio":
        extractor = cast(MSMAMLFeatureExtractor, part)
        preparation = {
            "sampling_rate": extractor.sampling_rate,
            "channels": 1,
            "scale": 32767,
            "max_samples": extractor.num_samples,
        }
        is_whole = extractor.duration is None
        length = 3 * extractor.sampling_rate if is_whole else extractor.num_samples
        sample = torch.randint(-9999, 9999, (2, length), generator=generator).short()
        return Input("int16", ("samples" if is_whole else length,), sample, preparation)
    size = cast(MSMAMLImageProcessor, part).size
    preparation = {"colours": "RGB", "resampling": "bilinear", "size": size}
    if size is None:
        preparation |= {"max_shorter_side": MOST_SIDE, "max_longer_side": MOST_LONG_SIDE}
    sides = (150, 200) if size is None else (size, size)
    sample = torch.randint(0, 256, (2, 3, *sides), generator=generator).byte()
    return Input("uint8", (3, "height", "width") if size is None else (3, size, size), sample, preparation)


def _program(graph: nn.Module, sample: Tensor, name: str, axes: dict[int, Any]) -> Any:
    """The graph in ONNX."""
    try:
        with _quiet(), torch.no_grad():
            return torch.onnx.export(
                graph,
                (sample,),
                dynamo=True,
                input_names=[name],
                output_names=["probabilities"],
                dynamic_shapes=(axes,),
                verbose=False,
            )
    except Exception as error:  # whatever the exporter and the operators of a model come up with
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"this model has no form as ONNX ({reason}); save_pretrained keeps the classifier for Python"
        ) from error


def _check(path: Path, name: str, sample: Tensor, expected: Tensor) -> None:
    """Runs the written graph, so that no file is left that gives other probabilities than the classifier."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: sample.numpy()})
    difference = float(np.abs(np.asarray(found) - expected.numpy()).max())
    if not difference <= _CLOSE:
        for file in (path, path.with_name(f"{path.name}.data")):
            file.unlink(missing_ok=True)
        raise ValueError(
            f"this model has no form as ONNX: its probabilities would be off by {difference:.2g}; save_pretrained "
            "keeps the classifier for Python"
        )


def _save_tokenizer(processor: Any, path: Path) -> None:
    """The tokenizer without the padding and the truncation that its last call has left in it."""
    tokenizer = Tokenizer.from_str(processor.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(path))


def _plain_label(label: Any) -> Any:
    """A class as JSON has it; a tuple becomes a list."""
    if isinstance(label, tuple):
        return [_plain_label(item) for item in label]
    if label is None or isinstance(label, (str, int, float, bool)):
        return label
    raise ValueError(
        f"the class {label!r} is a {type(label).__name__}, which cannot be saved: fit with strings, numbers or tuples"
    )


def _require_extra() -> None:
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            message = f"export needs {name}, which comes with the extra export: pip install 'msmaml[export]'"
            raise ModuleNotFoundError(message, name=error.name, path=error.path) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out what the exporter tells its developers."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx", "torch.fx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

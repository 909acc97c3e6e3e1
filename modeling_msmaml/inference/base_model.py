"""The model that a classifier starts from: found where none is named, read once, and set up for adaptation."""

import copy
import difflib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeGuard

from huggingface_hub import model_info, try_to_load_from_cache
from huggingface_hub.errors import (
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]
    RepositoryNotFoundError,
)
from transformers import PreTrainedModel

from ..inputs.processing_msmaml import MSMAMLProcessor
from ..model.hub_files import NotFetched, hub_file, pause_after, repeated, whole_files
from ..model.modeling_msmaml import MSMAMLModel
from ..model.saved_files import read_from, read_json

VARIABLE = "MSMAML_MODEL"
NAME = "pretrained/msmaml-base"  # of the shipped model, as configs and documents write it
_PROCESSOR_FILES = ("*processor_config.json", "*token*", "vocab*", "merges*")
_STEPS = ("num_inner_steps", "num_eval_inner_steps")
# A wheel holds the folder `pretrained` in this package (setup.py), a repository beside it.
_PACKAGE = Path(__file__).resolve().parents[1]
SHIPPED = (_PACKAGE if (_PACKAGE / NAME).is_dir() else _PACKAGE.parent) / NAME


def how_to_get_a_model() -> str:
    """What somebody without a model can do."""
    return (
        "train one with `msmaml train quickstart`, which takes minutes and needs no data, and name it: its folder is "
        f"outputs/quickstart, as an argument or as {VARIABLE}=outputs/quickstart"
    )


def shipped_or_given(place: str | os.PathLike) -> str | os.PathLike:
    """The folder of the shipped model for its [`NAME`], wherever one works; any other place as it is."""
    is_shipped = os.path.normpath(place) == os.path.normpath(NAME) and not os.path.exists(place)
    return str(SHIPPED) if is_shipped else place


def default_model() -> str:
    """
    The folder or repository in the environment variable `MSMAML_MODEL`, else the model that comes with the code.

    Raises:
        `FileNotFoundError`: there is neither; the message says what to run.
    """
    if named := os.environ.get(VARIABLE):
        return named
    if (SHIPPED / "config.json").is_file():
        return str(SHIPPED)
    raise FileNotFoundError(f"no model comes with this installation, and {VARIABLE} names none: {how_to_get_a_model()}")


def stored_model(path: str, num_inner_steps: int | None, device: str) -> tuple[MSMAMLModel, MSMAMLProcessor | None]:
    """
    The model of a folder or repository, [`prepared`], and the processor that was saved with it, if any. Calls with the
    same arguments share one model, as long as its files do not change: copy it before you change it.

    Raises:
        `FileNotFoundError`: there is no such model; the message says how to come by one.
    """
    path = os.fspath(shipped_or_given(path))
    return _loaded(path, _stamp(path), num_inner_steps, device)


def is_model(given: Any) -> TypeGuard[MSMAMLModel]:
    """
    Whether it is an MS-MAML model. Also one of another module than here: code that was saved with a model may be loaded
    twice, once with the model and once with the pipeline.
    """
    kind = getattr(getattr(given, "config", None), "model_type", None)
    return isinstance(given, MSMAMLModel) or (isinstance(given, PreTrainedModel) and kind == "msmaml")


def prepared(model: MSMAMLModel, num_inner_steps: int | None, device: str) -> MSMAMLModel:
    """
    The same model, set up to be adapted to examples.

    Args:
        model: it is changed.
        num_inner_steps: steps of the adaptation; `None` leaves them as in evaluation.
        device: where the model is to run.

    Raises:
        ValueError: there is no such device, or it cannot be used; the model takes no inner steps.
    """
    if num_inner_steps is not None and not model.takes_inner_steps:
        raise ValueError(
            f"num_inner_steps={num_inner_steps} has no effect on a model with task_network="
            f"{model.config.task_network!r}: leave it out"
        )
    model.config.norm_statistics = "support"
    # On the model itself, since the config is what is saved.
    model.own_steps = {name: getattr(model.config, name) for name in _STEPS}  # pyright: ignore[reportArgumentType]
    if num_inner_steps is not None:
        model.config.num_inner_steps, model.config.num_eval_inner_steps = num_inner_steps, None
    try:
        return model.eval().to(device)  # pyright: ignore[reportArgumentType]  # transformers wraps `to` without its types
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise ValueError(f"device={device!r} cannot be used here ({reason}): 'cpu' can, anywhere") from error


def as_trained(model: MSMAMLModel) -> MSMAMLModel:
    """
    A [`prepared`] model with the number of inner steps that its parameters were made for, since trained rates are one
    per step. It shares the parameters.
    """
    model = copy.copy(model)
    model.config = copy.deepcopy(model.config)
    for name, value in model.own_steps.items():  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
        setattr(model.config, name, value)
    return model


def saved_file(path: str | os.PathLike, name: str, **hub: Any) -> str | None:
    """
    The path on this machine of a file of a folder or repository; `None` if it has no file of this name.

    Args:
        hub: see `loaded_model`.

    Raises:
        `NotFetched`: the Hub cannot be asked, and the cache does not say either; or the file was damaged on its way.
    """
    try:
        found = hub_file(path, name, **hub)
    except NotFetched:
        raise
    except FileNotFoundError:  # no such repository: to be reported where the model is read
        return None
    return None if found is None else str(found)


def require_model(path: str) -> None:
    """
    Raises `FileNotFoundError` for a model that is no folder, not in the cache and not on the Hub, after a short
    question: transformers asks for several files, each again and again where there is no network. The question is
    repeated twice where the Hub is busy.
    """
    if os.path.exists(path) or _cached(path, "config.json") or _cached(path, "README.md"):
        return
    try:
        _ask_for(path)
    except HFValidationError as error:
        raise no_such_model(path, f"there is no such folder, and a repository has another name: {error}") from error
    except RepositoryNotFoundError as error:
        raise no_such_model(path, "there is no such folder, and no such repository that can be read") from error
    except Exception as error:  # whatever a network, a proxy or a server comes up with
        said = f"there is no such folder, and the Hub cannot be asked: {str(error) or repr(error)}"
        raise no_such_model(path, f"{said}; run again when it can be") from error


def _ask_for(repository: str) -> None:
    """Asks the Hub for a repository, up to three times while it is busy or does not answer to the end."""

    def pause(error: Exception, least: float) -> float | None:
        never_reached = "Connect" in type(error).__name__  # of the library that calls the Hub
        return pause_after(error, least) if isinstance(error, HTTPError) and not never_reached else None

    repeated(lambda: model_info(repository, timeout=5), pause, pauses=(1.0, 5.0))


def no_such_model(path: str, why: str) -> FileNotFoundError:
    """The error of a model that is not there, with models in folders nearby that have a similar name."""
    parent = Path(path).parent
    here = [folder for place in {parent, Path(".")} if place.is_dir() for folder in place.iterdir()]
    models = {folder.name: folder for folder in here if (folder / "config.json").is_file()}
    close = difflib.get_close_matches(Path(path).name, models, n=3)
    hint = f"; did you mean {' or '.join(str(models[name]) for name in close)}?" if close else ""
    return FileNotFoundError(
        f"model={path!r} is no folder or repository of a model ({why}){hint}: {how_to_get_a_model()}"
    )


def _cached(path: str, name: str) -> bool:
    try:
        return isinstance(try_to_load_from_cache(path, name), str)
    except HFValidationError:
        return False


def _stamp(path: str) -> tuple:
    """A value that changes when the files of a local model do."""
    files = sorted(Path(path).glob("*")) if Path(path).is_dir() else []
    stats = [(file.name, file.stat()) for file in files if file.suffix in (".json", ".safetensors")]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@lru_cache(maxsize=4)  # cross-validation fits many classifiers on one model, which no one changes
def _loaded(
    path: str, stamp: tuple, num_inner_steps: int | None, device: str
) -> tuple[MSMAMLModel, MSMAMLProcessor | None]:
    require_model(path)
    model, processor = loaded_model(path)
    return prepared(model, num_inner_steps, device), processor


def loaded_model(path: str, **hub: Any) -> tuple[MSMAMLModel, MSMAMLProcessor | None]:
    """
    The model of a folder or repository, and the processor that was saved with it, if any.

    Args:
        hub: `revision`, `token` and other arguments of `from_pretrained`, with which files are fetched.

    Raises:
        `FileNotFoundError`: there is no such model; the message says how to come by one.
        `NotFetched`: the Hub cannot be asked, or a file was damaged on its way.
        `ValueError`: it is of a class that is not known here.
    """
    try:
        model = model_class(path, **hub).from_pretrained(path, **hub)
    except NotFetched:
        raise
    except OSError as error:
        raise no_such_model(path, str(error)) from error
    return model, saved_processor(path, **hub)


def saved_processor(path: str | os.PathLike, **hub: Any) -> MSMAMLProcessor | None:
    """
    The processor that was saved with a model, if any.

    Args:
        hub: see `loaded_model`.

    Raises:
        `OSError`, `ValueError`: its files are damaged; the message names the file, or where it is.
    """
    if (file := saved_file(path, "processor_config.json", **hub)) is None:
        return None
    read_json(file)
    with (
        read_from(path),
        whole_files(path, "tokenizer_config.json", "tokenizer.json", reads=_PROCESSOR_FILES, **hub),
    ):
        processor = MSMAMLProcessor.from_pretrained(path, **hub)
        if processor.tokenizer is not None:
            # Tokenizers keep values of any type until they need them.
            processor.tokenizer(["a word"], padding=True, truncation=True, max_length=4)
        return processor


def model_class(path: str | os.PathLike, **hub: Any) -> type[MSMAMLModel]:
    """
    The class that a saved model is of: [`MSMAMLModel`], or one derived from it whose module has been imported.

    Args:
        path: its folder or repository; one without `config.json` is of the published layout.
        hub: see `loaded_model`.

    Raises:
        `ValueError`: no such class is known here. Another one would leave out weights, or compute something else.
    """
    file = saved_file(path, "config.json", **hub)
    names = (read_json(file).get("architectures") if file else None) or [MSMAMLModel.__name__]
    if not isinstance(names, list) or not isinstance(names[0], str):
        raise ValueError(f"{file} has architectures={names!r}, which must be a list of names of classes")
    known = {own.__name__: own for own in _with_derived(MSMAMLModel)}
    if names[0] not in known:
        raise ValueError(
            f"{os.fspath(path)} holds a model of the class {names[0]}, which is neither {MSMAMLModel.__name__} nor a "
            "class derived from it that has been imported: import the module that defines it first, or give the model "
            f"itself, {names[0]}.from_pretrained(...)"
        )
    return known[names[0]]


def _with_derived(own: type[MSMAMLModel]) -> list[type[MSMAMLModel]]:
    return [own, *(further for derived in own.__subclasses__() for further in _with_derived(derived))]

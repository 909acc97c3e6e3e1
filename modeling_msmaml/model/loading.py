"""What all MS-MAML models share: how their weights start, and how they are loaded, from the published layout too."""

import contextlib
import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, logging

from .configuration_msmaml import MSMAMLConfig
from .hub_files import hub_file, whole_files
from .inner_optimizers import DescentOptimizer, inner_optimizer_class
from .inner_rates import InnerRates
from .level_frontend import LevelFrontend
from .level_sources import ACCESS_ARGUMENTS, source_of
from .modality_text import WordVectors
from .norms import NormParameters
from .pretrained_encoder import PretrainedFrontend
from .published_checkpoint import HUB_ARGUMENTS, OriginalCheckpoint, check_fit, find_original, read_config, read_weights
from .saved_files import read_from, refuse_other_sizes
from .uploads import UploadsEncoders

logger = logging.get_logger(__name__)

_FILES = ("config.json", "generation_config.json", "model*")  # what transformers reads of a model
# Options that say where parameters start, the beginning of the names of these, and what else one may have meant.
_STARTS = {
    "inner_lr": ("inner_rates.rates.", ", or give inner_rates='fixed' as well, which takes no trained rates"),
    "cosine_scale": ("task_network.cosine_scale.", ""),
    "modulation_init": ("task_encoder.modulations.", ""),
}


class MSMAMLPreTrainedModel(UploadsEncoders, PreTrainedModel):
    """Weight initialisation, loading and saving, shared by all MS-MAML models."""

    config: MSMAMLConfig
    # What the kind of task network gives the model.
    frontends: nn.ModuleDict
    task_network: Any
    task_encoder: nn.Module | None
    descriptors: nn.ModuleDict
    inner_rates: nn.Module | None
    auxiliary: nn.ModuleDict
    # How the trainer anneals the inner loop, see `MSMAMLModel`.
    multi_step_weights: tuple[float, ...] | None
    first_order_for_now: bool
    # Arguments that fetch other files from where it was loaded, at the same commit.
    fetched_with: Mapping[str, Any] = MappingProxyType({})

    config_class = MSMAMLConfig
    base_model_prefix = "msmaml"
    main_input_name = "episodes"

    def __init__(self, config: MSMAMLConfig, *args, **kwargs):
        super().__init__(config, *args, **kwargs)
        self.add_model_tags(["ms-maml", "meta-learning", "few-shot-learning"])  # of the card that push_to_hub writes

    @property
    def num_inner_steps(self) -> int:
        """The number of inner steps in the mode that the model is in, training or evaluation."""
        given = None if self.training else self.config.num_eval_inner_steps
        return self.config.num_inner_steps if given is None else given

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *model_args,
        run: str | None = None,
        iteration: int | None = None,
        **kwargs,
    ) -> Self:
        """
        As in transformers; it also reads a folder or repository of the published layout, which has no `config.json`
        but `train_dir/<run>/maml_gated_conv_1d_<iteration>.pt`. With fewer `num_inner_steps` than a model has trained
        rates for, those of the first steps are kept; with more, those of the last step are repeated.

        Args:
            run: which run of the published layout; by default the three-modality 5-way 1-shot one. `subfolder`, the
                path of its folder, does the same.
            iteration: which checkpoint of that run; by default its last.

        Raises:
            `ValueError`: no such run or iteration (the message lists those that exist), or a file that is not a
                published checkpoint, or not of its `train_config.json`; another start, such as
                `inner_lr`, of parameters that the model has trained; files that are damaged, or do not fit each other.
            `OSError`: no such folder or repository, or files are missing in it.
        """
        # On the device "meta" transformers loads nothing, and says what to do instead.
        on_meta = torch.get_default_device().type == "meta"
        with contextlib.nullcontext() if on_meta else read_from(pretrained_model_name_or_path or "the model"):
            return cast(Any, cls)._from_files(
                pretrained_model_name_or_path, *model_args, run=run, iteration=iteration, **kwargs
            )

    @classmethod
    def _from_files(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *model_args,
        run: str | None,
        iteration: int | None,
        **kwargs,
    ) -> Self:
        found, hub = None, {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}
        if pretrained_model_name_or_path is not None or run is not None or iteration is not None:
            found = find_original(cast(str, pretrained_model_name_or_path), run=run, iteration=iteration, **hub)
        asks_for_info = kwargs.pop("output_loading_info", False)
        if found is None:
            names = (CONFIG_NAME,) if kwargs.get("variant") else (CONFIG_NAME, SAFE_WEIGHTS_NAME)
            with whole_files(pretrained_model_name_or_path, *names, reads=_FILES, **hub), _arguments_named(kwargs):
                if pretrained_model_name_or_path is not None and not kwargs.get("ignore_mismatched_sizes"):
                    _refuse_misfit(cls, pretrained_model_name_or_path, hub)
                steps, kwargs = _steps_wanted(pretrained_model_name_or_path, kwargs, hub)
                options = _given_starts(kwargs)
                loaded: Any = super().from_pretrained(
                    pretrained_model_name_or_path, *model_args, output_loading_info=True, **kwargs
                )
            model, info = loaded
            if options and pretrained_model_name_or_path is not None:
                saved = MSMAMLConfig.from_pretrained(pretrained_model_name_or_path, **hub)
                _refuse_trained(model, options, saved, info, pretrained_model_name_or_path)
            if steps is not None:
                cast(InnerRates, model.inner_rates).resize(steps)
                model.config.num_inner_steps = steps
            _after_loading(model)
            if pretrained_model_name_or_path is not None:
                model.came_from(pretrained_model_name_or_path, **hub)
            return loaded if asks_for_info else model
        kwargs = {name: value for name, value in kwargs.items() if name not in HUB_ARGUMENTS}
        options = _given_starts(kwargs)
        loaded = cast(Any, cls)._from_original(found, *model_args, output_loading_info=True, **kwargs)
        model, info = loaded
        _refuse_trained(model, options, read_config(found.options), info, cast(str, pretrained_model_name_or_path))
        _after_loading(model)
        model.name_or_path = model.config.name_or_path = str(pretrained_model_name_or_path)
        return loaded if asks_for_info else model

    def came_from(self, path: str | os.PathLike, subfolder: str = "", **hub: Any) -> None:
        """Remembers where the model that was loaded lies, and tells frontends on levels, whose encoders are there."""
        source = source_of(path, subfolder, **hub)
        access = {name: hub[name] for name in ACCESS_ARGUMENTS if name in hub}
        self.fetched_with = access | {"subfolder": subfolder, "revision": source.revision}
        for frontend in self.frontends.values():
            if isinstance(frontend, LevelFrontend):
                frontend.found_in(source, access)

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, *args, **kwargs) -> None:
        """
        As in transformers; the encoders of a model on levels are saved with it, as hard links where that is possible.

        Raises:
            `FileNotFoundError`, `ValueError`: an encoder cannot be found any more, or was changed.
        """
        if is_main_process:
            for frontend in self.frontends.values():
                if isinstance(frontend, LevelFrontend):
                    frontend.save(Path(save_directory))
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)

    @classmethod
    def _from_original(cls, checkpoint: OriginalCheckpoint, *model_args, **kwargs):
        if not kwargs.get("weights_only", True):
            raise ValueError(f"weights_only=False is refused: {checkpoint.weights} is read as tensors only")
        config, weights = read_config(checkpoint.options), read_weights(checkpoint.weights)
        check_fit(weights, cls(config).state_dict(), checkpoint.weights)
        if kwargs.get("config") is None:
            changes = {name: kwargs.pop(name) for name in config.own_arguments() if name in kwargs}
            kwargs["config"] = type(config)(**{**config.own_values(), **changes})
        if "text" in config.modalities:
            logger.warning(
                "Published checkpoints hold no word vectors; those of this model are random until "
                "`set_input_embeddings` gives it the ones of your texts."
            )
        return super().from_pretrained(None, *model_args, state_dict=weights, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """The architecture's init: Xavier uniform and zero bias in the task network, PyTorch's defaults elsewhere."""
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)) and any(
            module is part for part in self.task_network.modules()
        ):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, NormParameters):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, WordVectors):
            init.normal_(module.weight)
            if not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif hasattr(module, "reset_parameters"):
            cast(Any, module).reset_parameters()


@contextlib.contextmanager
def _arguments_named(given: Mapping[str, Any]) -> Iterator[None]:
    """
    Raises `ValueError` for what is wrong with the arguments of a call, and not with what it reads: one that nothing
    takes, or options of the config that the saved weights are too large or too small for.
    """
    try:
        yield
    except TypeError as error:
        unknown = [name for name in given if f"unexpected keyword argument '{name}'" in str(error)]
        if not unknown:
            raise
        raise ValueError(f"from_pretrained has no argument {unknown[0]}={given[unknown[0]]!r}") from error
    except RuntimeError as error:
        changed = {name: given[name] for name in MSMAMLConfig.own_arguments() if name in given}
        if not changed or "ignore_mismatched_sizes" not in str(error):
            raise
        shown = ", ".join(f"{name}={value!r}" for name, value in changed.items())
        raise ValueError(
            f"the saved weights have other sizes than {shown} asks for: leave it out, or train a model with it "
            "(ignore_mismatched_sizes=True begins those weights anew)"
        ) from error


def _refuse_misfit(cls: Any, path: str | os.PathLike, hub: dict[str, Any]) -> None:
    """Raises `ValueError` for a saved model whose config describes other weights than those that are beside it."""
    saved = cls.config_class.from_pretrained(path, **hub)
    weights = hub_file(path, SAFE_WEIGHTS_NAME, **hub)
    if weights is None or saved.embeddings:  # encoders that are built with the model need not do without memory
        return
    with torch.device("meta"):
        expected = cls(saved).state_dict()
    refuse_other_sizes(expected, weights, CONFIG_NAME)


def _given_starts(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The options among the arguments that say where parameters start, or all of a config that is given."""
    config = kwargs.get("config")
    own = {name: getattr(config, name) for name in _STARTS if hasattr(config, name)}
    return own | {name: kwargs[name] for name in _STARTS if name in kwargs}


def _refuse_trained(
    model: MSMAMLPreTrainedModel,
    options: Mapping[str, Any],
    saved: MSMAMLConfig,
    info: Mapping[str, Any],
    path: str | os.PathLike,
) -> None:
    """
    Raises `ValueError` for an option that would change nothing: it says where parameters start that were all loaded.

    Args:
        options: as given.
        info: what `output_loading_info=True` returns.
    """
    started = {*info["missing_keys"], *(key if isinstance(key, str) else key[0] for key in info["mismatched_keys"])}
    for name, value in options.items():
        prefix, remedy = _STARTS[name]
        own = [key for key, _ in model.named_parameters() if key.startswith(prefix)]
        if value != getattr(saved, name) and own and not started.intersection(own):
            raise ValueError(
                f"{name}={value!r} would change nothing: it says where parameters start that {path} has trained, from "
                f"{getattr(saved, name)!r} on; leave it out{remedy}"
            )


def _steps_wanted(
    path: str | os.PathLike | None, kwargs: dict[str, Any], hub: dict[str, Any]
) -> tuple[int | None, dict[str, Any]]:
    """
    How many inner steps are wanted, if the saved model has trained rates for another number; and the arguments with
    which it is loaded as it was saved.
    """
    config = kwargs.get("config")
    # By its name: code that was saved with a model may be loaded twice, as that of the config and that of the model.
    is_ours = getattr(config, "model_type", None) == MSMAMLConfig.model_type
    given = cast(MSMAMLConfig, config) if is_ours else None
    wanted = kwargs.get("num_inner_steps", given and given.num_inner_steps)
    if path is None or not wanted or kwargs.get("ignore_mismatched_sizes"):
        return None, kwargs
    saved = MSMAMLConfig.from_pretrained(path, **hub)
    rates = (saved.inner_rates, kwargs.get("inner_rates", given.inner_rates if given else saved.inner_rates))
    if set(rates) != {"per_layer_per_step"} or wanted == saved.num_inner_steps:
        return None, kwargs
    if not issubclass(inner_optimizer_class(saved), DescentOptimizer):
        return None, kwargs
    if given is None or "num_inner_steps" in kwargs:
        return wanted, {**kwargs, "num_inner_steps": saved.num_inner_steps}
    as_saved = copy.deepcopy(given)
    as_saved.num_inner_steps = saved.num_inner_steps
    return wanted, {**kwargs, "config": as_saved}


def _after_loading(model: Any) -> None:
    """
    Copies tensors out of the mapped file, where they lie at any address: a matrix product may round differently at
    another alignment, and a loaded model is to give the results of the saved one to the last bit. And sets what loading
    makes trainable back to what the config says.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":
            tensor.data = tensor.data.clone()
    if "text" in model.frontends and isinstance(model.frontends["text"], WordVectors):
        model.train_word_vectors(model.config.train_word_vectors)
    for module in model.modules():
        if isinstance(module, PretrainedFrontend):
            module.after_loading()

"""What the inner loop adapts of a task network: the registry of choices, and those that come with the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .configuration_msmaml import MSMAMLConfig


@dataclass(frozen=True)
class AdaptedParameters:
    """
    A choice of parameters of [`TaskNetwork`] that the inner loop adapts; the outer loop trains where all of them start.

    Args:
        is_adapted: whether the parameter of a name is among them. The names are those of `TaskNetwork`, such as
            `"embeddings.audio.proj.weight"`, `"convolutions.0.bias"`, `"projection.weight"`, `"classifier.weight"`.
        embeddings: whether embeddings, or low-rank factors of them, may be among them. If not, the sequences of samples
            are computed once, and not in every inner step.
        affine_norms: whether every norm of the network gets a scale and a shift of its own, `"affine_norm.0.weight"`
            and `"affine_norm.0.bias"`, which start at 1 and 0. They come before the modulation. With `norm_affine` of
            the config norms have them in any case.
        low_rank: whether the layers in `lora_layers` get low-rank factors, such as `"factors.convolutions_0.up"`.
    """

    is_adapted: Callable[[str], bool]
    embeddings: bool = False
    affine_norms: bool = False
    low_rank: bool = False


_REGISTRY: dict[str, AdaptedParameters] = {}


def register_adapted_parameters(name: str, choice: AdaptedParameters) -> None:
    """
    Makes `name` a choice that a config may name as its `adapted_parameters`. Registering a name again replaces it in
    models that are built afterwards.

    Raises:
        `TypeError`: `choice` is no [`AdaptedParameters`].
    """
    if not isinstance(choice, AdaptedParameters):
        raise TypeError(f"choice={choice!r} must be an AdaptedParameters")
    _REGISTRY[name] = choice


def adapted_parameters_of(config: MSMAMLConfig) -> AdaptedParameters:
    """
    What the config's `adapted_parameters` names.

    Raises:
        `ValueError`: the name is not registered.
    """
    name = config.adapted_parameters
    if name not in _REGISTRY:
        raise ValueError(
            f"adapted_parameters={name!r} is unknown; registered are {', '.join(_REGISTRY)}. "
            "register_adapted_parameters(name, AdaptedParameters(...)) adds one"
        )
    return _REGISTRY[name]


def adapts_embeddings(config: MSMAMLConfig) -> bool:
    """Whether inner steps change what the embeddings make of samples. Raises as `adapted_parameters_of`."""
    choice = adapted_parameters_of(config)
    factors_of_embeddings = any(layer.startswith("embeddings") for layer in config.lora_layers or ())
    return choice.embeddings or (choice.low_rank and factors_of_embeddings)


def _of_classifier(name: str) -> bool:
    return name.startswith("classifier.")


def _of_layers(name: str) -> bool:
    """Convolutions (with those of shortcuts), scales and shifts of norms, projection and classifier."""
    return name.startswith(("convolutions.", "shortcuts.", "affine_norm.", "projection.", "classifier."))


register_adapted_parameters(
    "all", AdaptedParameters(lambda name: _of_layers(name) or name.startswith("embeddings."), embeddings=True)
)
register_adapted_parameters("upper", AdaptedParameters(_of_layers))
register_adapted_parameters("head", AdaptedParameters(_of_classifier))
register_adapted_parameters(
    "biases_and_norms",
    AdaptedParameters(
        lambda name: name.startswith(("classifier.", "affine_norm.")) or (_of_layers(name) and "bias" in name),
        affine_norms=True,
    ),
)
register_adapted_parameters(
    "lora", AdaptedParameters(lambda name: _of_classifier(name) or name.startswith("factors."), low_rank=True)
)

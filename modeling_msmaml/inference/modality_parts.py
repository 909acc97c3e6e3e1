"""What one modality needs of a model on levels and its processor, so that nothing else is saved with a classifier."""

import copy
from typing import Any

from transformers import ProcessorMixin

from ..inputs.kinds import KINDS
from ..inputs.processing_msmaml import MSMAMLProcessor
from ..model.modeling_msmaml import MSMAMLModel


def part_of_model(model: MSMAMLModel, modality: str) -> MSMAMLModel:
    """
    A model on levels with the encoder, the statistics and the weights of one modality alone, which classifies inputs
    of it as the whole does. Other models, whose modalities share most of their parameters, are returned as they are.
    """
    if not model.reads_levels or list(model.config.modalities) == [modality]:
        return model
    values = copy.deepcopy(model.config.own_values())
    values |= {"modalities": [modality], "level_encoders": {modality: values["level_encoders"][modality]}}
    part = type(model)(type(model.config)(**values)).to(model.dtype).eval()  # pyright: ignore[reportArgumentType]
    whole = model.state_dict()
    part.load_state_dict({name: whole[name] for name in part.state_dict()})
    part.frontends[modality] = model.frontends[modality]  # which knows how its encoder is fetched
    return part


def part_of_processor(processor: ProcessorMixin, modality: str) -> ProcessorMixin:
    """A processor with its part for one modality alone, if it is one of this package and the modality has a part."""
    own: Any = processor
    # By its name: code that was saved with a model may be loaded twice, and is then two classes.
    if type(processor).__name__ != MSMAMLProcessor.__name__ or modality not in KINDS:
        return processor
    name = KINDS[modality].part
    return type(own)(**{name: getattr(own, name)}, text_padding=own.text_padding)

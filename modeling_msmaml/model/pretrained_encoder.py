"""
Frontends that are frozen pretrained encoders, which turn raw inputs into the hidden states of a model of transformers
or timm, and what all modalities with such an encoder share: the embedding that reads these states, its adapter, and the
statistics for the descriptor.

The encoders stay in evaluation mode. No gradient flows through them and no optimiser changes them. What they compute is
rounded to float16, the type in which features are stored by `data_builders`, so that computed and stored features are
the same.
"""

from collections.abc import Iterable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, Shaped
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .descriptors import DescriptorStatistics
from .execution import autocast
from .modalities import ModalityEmbedding
from .norms import make_group_norm

BATCH_SIZE = 16  # number of samples that an encoder reads at once on the CPU
ACCELERATOR_BATCH_SIZE = 128  # the same on an accelerator


def encoder_spec(config: MSMAMLConfig, modality: str) -> dict[str, Any]:
    """Returns the description of a modality's encoder, see `embeddings` in [`MSMAMLConfig`]."""
    return (config.embeddings or {})[modality]


class PretrainedFrontend(nn.Module):
    """
    Base class of frontends that are pretrained encoders. Maps raw inputs (.., *sample) to features
    (.., num_features, positions). Inputs of type float16 are taken for features that were computed before, and are
    returned as they are.

    A subclass sets `modality` and `sample_dims`, the number of dimensions of a raw sample, and implements `build` and
    `encode`.
    """

    modality: str
    sample_dims: int

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.spec = encoder_spec(config, self.modality)
        self.recorded = self.spec["recorded"]
        self.num_features = self.recorded["num_features"]
        self.pool = self.spec.get("pool", 1)
        self.layer = self.spec.get("layer")
        # transformers builds a model on the meta device if it is about to load saved weights: then none are downloaded.
        loads = torch.get_default_device().type != "meta" and self.spec.get("pretrained", True)
        with torch.device("cpu"):
            self.encoder = self.build(pretrained=loads)
        self.encoder.requires_grad_(False)
        for module in cast(Iterable[Any], self.encoder.modules()):
            module._is_hf_initialized = True  # so that `post_init` of the whole model does not initialise it
        self.train(False)

    def build(self, pretrained: bool) -> nn.Module:
        """Builds the encoder as the config records it, with its pretrained weights or with random ones."""
        raise NotImplementedError

    def encode(self, inputs: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch features positions"]:
        """Computes the features of some samples, in the encoder's dtype. They are zero after the end of a sample."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "PretrainedFrontend":
        """Keeps evaluation mode (no dropout, fixed statistics), whatever the mode of the whole model."""
        return super().train(False)

    def after_loading(self) -> None:
        """
        Completes the loading of a saved model, which makes every parameter trainable, and leaves buffers undefined that
        checkpoints do not store, such as position numbers.
        """
        self.encoder.requires_grad_(False)
        stored, fresh = self.encoder.state_dict().keys(), None
        for name, buffer in self.encoder.named_buffers():
            if name not in stored:
                fresh = fresh or dict(self.build(pretrained=False).named_buffers())
                buffer.copy_(fresh[name])

    @property
    def encoder_dtype(self) -> torch.dtype:
        """The dtype of the encoder's parameters."""
        return next(self.encoder.parameters()).dtype

    @torch.no_grad()
    def forward(self, inputs: Shaped[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "... num_features positions"]:
        """
        Returns the features of raw inputs in type `dtype`.

        Raises:
            `ValueError`: inputs, or an encoder's features, of a shape that does not fit.
        """
        if inputs.dtype == torch.float16:
            if inputs.dim() < 3 or inputs.shape[-2] != self.num_features:
                raise ValueError(
                    f"{self.modality} inputs of dtype float16 are features of the encoder and have shape "
                    f"(.., {self.num_features}, positions), not {tuple(inputs.shape)}; raw inputs are integers or "
                    "float32"
                )
            return inputs.to(dtype)
        leading = inputs.shape[: inputs.dim() - self.sample_dims]
        features = torch.cat(list(self.batches(inputs.flatten(0, len(leading) - 1))))
        return features.to(dtype).unflatten(0, leading)

    @property
    def batch_size(self) -> int:
        """Number of samples that the encoder reads at once on its device."""
        on_cpu = next(self.encoder.parameters()).device.type == "cpu"
        return BATCH_SIZE if on_cpu else ACCELERATOR_BATCH_SIZE

    def batches(
        self, inputs: Shaped[Tensor, "samples ..."], size: int | None = None
    ) -> Iterator[Float16[Tensor, "batch features positions"]]:
        """Yields the features of many raw samples, `size` samples at a time, by default `batch_size`."""
        device = next(self.encoder.parameters()).device
        for part in inputs.split(size or self.batch_size):
            with torch.no_grad(), autocast(device.type, enabled=False):
                features = self.encode(part.to(device))
            if features.dim() != 3 or features.shape[1] != self.num_features:
                raise ValueError(
                    f"the encoder of {self.modality} returns features of shape {tuple(features.shape)} instead of "
                    f"({len(part)}, {self.num_features}, positions), so it cannot be used here"
                )
            yield self.pooled(features).to(torch.float16)

    def pooled(self, features: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch features runs"]:
        """Returns the mean over each run of `pool` positions. Positions after the end of a sample do not count."""
        if self.pool == 1:
            return features
        rest = -features.shape[2] % self.pool
        runs = F.pad(features, (0, rest)).unflatten(2, (-1, self.pool))
        filled = (runs != 0).any(dim=1).sum(dim=2)[:, None]
        return runs.sum(dim=3) / filled.clamp(min=1)


def build_transformer(source: str, recorded: dict[str, Any], pretrained: bool) -> nn.Module:
    """
    Builds a model of transformers without a head. Of a model with encoder and decoder it returns the encoder.

    Args:
        source: name on the Hub, or a folder. Not used without `pretrained`.
        recorded: what `record_encoders` recorded of it.
        pretrained: whether its weights are loaded; otherwise they are random.
    """
    if pretrained:
        model = AutoModel.from_pretrained(source, dtype=torch.float32, trust_remote_code=False)
    else:
        model = AutoModel.from_config(
            AutoConfig.for_model(**recorded["config"]), dtype=torch.float32, trust_remote_code=False
        )
    return model.get_encoder() if model.config.is_encoder_decoder else model


def hidden_states(encoder: nn.Module, layer: int | None, **inputs: Tensor) -> Float[Tensor, "batch positions features"]:
    """Returns the output of a layer (0 stands for the embeddings), by default that of the whole encoder."""
    if layer is None:
        return encoder(**inputs).last_hidden_state
    return encoder(**inputs, output_hidden_states=True).hidden_states[layer]


class Adapter(nn.Module):
    """
    Computes h + up(relu(down(h))) at every position, the bottleneck of Houlsby et al. 2019 (arXiv 1902.00751, section
    2.1), on the encoder's output. The layers inside the encoder have no adapters, so that its features can be stored.
    At first nothing changes, since `up` starts at zero.

    Args:
        num_features: size of the hidden states h.
        size: size of the bottleneck.
    """

    def __init__(self, num_features: int, size: int):
        super().__init__()
        # These are no nn.Linear, which the model would initialise in its own way.
        self.down = nn.Parameter(torch.empty(size, num_features))
        self.down_bias = nn.Parameter(torch.zeros(size))
        self.up = nn.Parameter(torch.zeros(num_features, size))
        self.up_bias = nn.Parameter(torch.zeros(num_features))

    def reset_parameters(self) -> None:
        init.normal_(self.down, std=self.down.shape[1] ** -0.5)
        for parameter in (self.down_bias, self.up, self.up_bias):
            init.zeros_(parameter)

    def forward(self, hidden: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch features positions"]:
        inner = F.relu(self.down @ hidden + self.down_bias[:, None])
        return hidden + self.up @ inner + self.up_bias[:, None]


def filled_positions(features: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch 1 positions"]:
    """Returns 1 for each position of a sample and 0 after its end, where, and only where, features are zero."""
    return (features != 0).any(dim=1, keepdim=True).to(features.dtype)


def mean_over_filled(features: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch features"]:
    """Returns the mean over the positions of each sample, not counting those after its end."""
    return features.sum(dim=2) / filled_positions(features).sum(dim=2).clamp(min=1)


class PretrainedStem(ModalityEmbedding):
    """
    Base class of the embeddings that read the features of an encoder. Maps them (batch, features, positions) to
    sequences (batch, C, positions), which are zero after the end of a sample.

    A subclass sets `frontend_class`.
    """

    frontend_class: type[PretrainedFrontend]

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        spec = encoder_spec(config, self.frontend_class.modality)
        num_features = spec["recorded"]["num_features"]
        self.adapter = Adapter(num_features, spec["adapter_size"]) if "adapter_size" in spec else None
        self.projection = nn.Conv1d(num_features, config.num_channels, 1)
        self.norm = make_group_norm(config.num_channels)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return cls.frontend_class(config)

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> DescriptorStatistics:
        # The statistics are not standardised, since the features of an encoder have the same scale already.
        recorded = encoder_spec(config, cls.frontend_class.modality)["recorded"]
        return DescriptorStatistics(mean_over_filled, recorded["num_features"], standardise=False, whitening=0.25)

    def forward(self, inputs: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch channels positions"]:
        hidden = inputs if self.adapter is None else self.adapter(inputs)
        return F.relu(self.norm(self.projection(hidden))) * filled_positions(inputs)

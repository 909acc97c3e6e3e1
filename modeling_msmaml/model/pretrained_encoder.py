"""
Frontends that are frozen pretrained encoders: raw inputs to the hidden states of a model of transformers or timm.

No gradient is taken through them and the outer loop leaves them as they are, in evaluation mode. What they compute is
rounded to float16, in which `data_builders.encoded` stores it: stored or computed, features are the same.
"""

from collections.abc import Iterator

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

BATCH_SIZE = 16  # samples that go through an encoder at once; on an accelerator more
ACCELERATOR_BATCH_SIZE = 128


class PretrainedFrontend(nn.Module):
    """
    Base class: raw inputs (.., *sample) -> features (.., num_features, positions).

    float16 inputs are features that were computed before, and pass.
    """

    modality: str
    sample_dims: int

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.spec = config.embeddings[self.modality]
        self.recorded = self.spec["recorded"]
        self.num_features = self.recorded["num_features"]
        self.pool = self.spec.get("pool", 1)
        self.layer = self.spec.get("layer")
        # transformers builds a model on the meta device if it has its weights already: then none are fetched.
        loads = torch.get_default_device().type != "meta" and self.spec.get("pretrained", True)
        with torch.device("cpu"):
            self.encoder = self.build(pretrained=loads)
        self.encoder.requires_grad_(False)
        for module in self.encoder.modules():
            module._is_hf_initialized = True  # `post_init` of the whole model leaves it alone
        self.train(False)

    def build(self, pretrained: bool) -> nn.Module:
        """The encoder as recorded, with its pretrained weights or random ones."""
        raise NotImplementedError

    def encode(self, inputs: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch features positions"]:
        """Features of some samples, in the encoder's dtype; zero where a sample has ended."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "PretrainedFrontend":
        """Stays in evaluation mode, without dropout and with fixed statistics, whatever the whole model does."""
        return super().train(False)

    def after_loading(self) -> None:
        """
        What loading a saved model does not do: it makes every parameter trained, and leaves buffers undefined that no
        checkpoint holds, such as position numbers.
        """
        self.encoder.requires_grad_(False)
        stored, fresh = self.encoder.state_dict().keys(), None
        for name, buffer in self.encoder.named_buffers():
            if name not in stored:
                fresh = fresh or dict(self.build(pretrained=False).named_buffers())
                buffer.copy_(fresh[name])

    @property
    def encoder_dtype(self) -> torch.dtype:
        return next(self.encoder.parameters()).dtype

    @torch.no_grad()
    def forward(self, inputs: Shaped[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "... num_features positions"]:
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

    def batches(self, inputs: Shaped[Tensor, "samples ..."]) -> Iterator[Float16[Tensor, "batch features positions"]]:
        """The features of many raw samples, a few at a time."""
        device = next(self.encoder.parameters()).device
        size = BATCH_SIZE if device.type == "cpu" else ACCELERATOR_BATCH_SIZE
        for part in inputs.split(size):
            with torch.no_grad(), autocast(device.type, enabled=False):
                features = self.encode(part.to(device))
            if features.dim() != 3 or features.shape[1] != self.num_features:
                raise ValueError(
                    f"the encoder of {self.modality} gives features of shape {tuple(features.shape)}, "
                    f"({len(part)}, {self.num_features}, positions) were expected: it cannot be used here"
                )
            yield self.pooled(features).to(torch.float16)

    def pooled(self, features: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch features runs"]:
        """The mean of each run of `pool` positions, of those that are filled."""
        if self.pool == 1:
            return features
        rest = -features.shape[2] % self.pool
        runs = F.pad(features, (0, rest)).unflatten(2, (-1, self.pool))
        filled = (runs != 0).any(dim=1).sum(dim=2)[:, None]
        return runs.sum(dim=3) / filled.clamp(min=1)


def build_transformer(source: str, recorded: dict, pretrained: bool) -> nn.Module:
    """A model of transformers without a head; of an encoder and a decoder, the encoder."""
    if pretrained:
        model = AutoModel.from_pretrained(source, dtype=torch.float32)
    else:
        model = AutoModel.from_config(AutoConfig.for_model(**recorded["config"]), dtype=torch.float32)
    return model.get_encoder() if model.config.is_encoder_decoder else model


def hidden_states(encoder: nn.Module, layer: int | None, **inputs: Tensor) -> Float[Tensor, "batch positions features"]:
    """What a layer gives out, 0 being the embeddings; by default what the whole encoder gives out."""
    if layer is None:
        return encoder(**inputs).last_hidden_state
    return encoder(**inputs, output_hidden_states=True).hidden_states[layer]


class Adapter(nn.Module):
    """
    h + up(relu(down(h))) at every position, the bottleneck of Houlsby et al. 2019 (arXiv 1902.00751, section 2.1), on
    the encoder's last hidden states: the encoder's own layers stay as they are, so that its features can be stored.
    Nothing changes at first, since `up` begins at zero.
    """

    def __init__(self, num_features: int, size: int):
        super().__init__()
        # Not nn.Linear, which the task network would start its own way.
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
    """1, and 0 where a sample has ended: hidden states are zero there and nowhere else."""
    return (features != 0).any(dim=1, keepdim=True).to(features.dtype)


def mean_over_filled(features: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch features"]:
    """Mean over the positions of a sample's own length."""
    return features.sum(dim=2) / filled_positions(features).sum(dim=2).clamp(min=1)


class PretrainedStem(ModalityEmbedding):
    """Features (batch, features, positions) -> (batch, C, positions); zero where a sample has ended."""

    frontend_class: type[PretrainedFrontend]

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        spec = config.embeddings[self.frontend_class.modality]
        num_features = spec["recorded"]["num_features"]
        self.adapter = Adapter(num_features, spec["adapter_size"]) if "adapter_size" in spec else None
        self.projection = nn.Conv1d(num_features, config.num_channels, 1)
        self.norm = make_group_norm(config.num_channels)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return cls.frontend_class(config)

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> DescriptorStatistics:
        # Not standardised: an encoder's features are on one scale already.
        recorded = config.embeddings[cls.frontend_class.modality]["recorded"]
        return DescriptorStatistics(mean_over_filled, recorded["num_features"], standardise=False, whitening=0.25)

    def forward(self, inputs: Float[Tensor, "batch features positions"]) -> Float[Tensor, "batch channels positions"]:
        hidden = inputs if self.adapter is None else self.adapter(inputs)
        return F.relu(self.norm(self.projection(hidden))) * filled_positions(inputs)

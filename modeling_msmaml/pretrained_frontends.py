"""
Frontends that are frozen pretrained encoders: raw inputs to the hidden states of a model of transformers or timm.

No gradient is taken through them and the outer loop leaves them as they are, in evaluation mode. What they compute is
rounded to float16, in which `data_builders.encoded` stores it: stored or computed, features are the same.
"""

from collections.abc import Iterator

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float16, Int, Shaped
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from .autocast import autocast
from .configuration_msmaml import MSMAMLConfig
from .encoder_sources import feature_extractor, timm_name
from .modality_embeddings import ScaleIntegers

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


class PretrainedTextFrontend(PretrainedFrontend):
    """
    Token ids (.., tokens) of the encoder's tokenizer, 0 = padding -> hidden states (.., features, positions).

    A text longer than the encoder's window is split into the fewest windows, equally long, and their states follow one
    another. Each window gets the special tokens, whose states count as positions. Those that a row has already are
    taken off first.
    """

    modality = "text"
    sample_dims = 1

    def build(self, pretrained: bool) -> nn.Module:
        return build_transformer(self.spec["transformers"], self.recorded, pretrained)

    def encode(self, inputs: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch features positions"]:
        if inputs.is_floating_point():
            raise ValueError(f"text inputs have dtype {inputs.dtype}: give integer token ids, or float16 features")
        size = self.recorded["config"]["vocab_size"]
        if inputs.device.type == "cpu" and inputs.numel() and not 0 <= inputs.min() <= inputs.max() < size:
            raise ValueError(
                f"token ids run from {inputs.min()} to {inputs.max()}, but the encoder "
                f"{self.spec['transformers']!r} has vocab_size={size}: tokenise with its tokenizer"
            )
        windows = self.windows(inputs.long())
        samples, number, length = windows.shape
        windows = windows.flatten(0, 1)
        filled = windows != 0
        used = filled.any(dim=1)
        states = hidden_states(self.encoder, self.layer, input_ids=windows[used], attention_mask=filled[used].long())
        states = states * filled[used][..., None]
        everything = states.new_zeros(samples * number, length, states.shape[-1])
        everything[used] = states
        return everything.view(samples, number * length, -1).transpose(1, 2)

    def windows(self, tokens: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch windows length"]:
        """Bare text in equally long windows, each with its special tokens; windows after a text's end are all 0."""
        before, after = (torch.tensor(ids, device=tokens.device) for ids in self.recorded["special_tokens"])
        tokens = without_special_tokens(tokens, before, after)
        room = (self.recorded["window"] or tokens.shape[1] + len(before) + len(after)) - len(before) - len(after)
        number = max(1, -(-tokens.shape[1] // room))
        length = -(-tokens.shape[1] // number)
        windows = F.pad(tokens, (0, number * length - tokens.shape[1])).view(len(tokens), number, length)
        words = (windows != 0).sum(dim=2, keepdim=True)
        windows = F.pad(windows, (len(before), len(after)))
        windows[..., : len(before)] = before
        places = len(before) + words + torch.arange(len(after), device=tokens.device)
        windows = windows.scatter(2, places, after.expand_as(places)) if len(after) else windows
        used = words > 0
        used[:, 0] = True  # a text without words is its special tokens
        return windows * used


def without_special_tokens(
    tokens: Int[Tensor, "batch length"], before: Int[Tensor, " before"], after: Int[Tensor, " after"]
) -> Int[Tensor, "batch length"]:
    """Rows without the special tokens around their text, of those rows that have them all."""
    length = (tokens != 0).sum(dim=1)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    ends = (length - len(after)).clamp(min=0)[:, None] + torch.arange(len(after), device=tokens.device)
    if len(before) + len(after) == 0 or tokens.shape[1] < len(before) + len(after):
        return tokens
    has = (tokens[:, : len(before)] == before).all(dim=1) & (length >= len(before) + len(after))
    has &= (tokens.gather(1, ends.clamp(max=tokens.shape[1] - 1)) == after).all(dim=1)
    bare = torch.where(places < (length - len(after))[:, None], tokens, 0).roll(-len(before), dims=1)
    bare = torch.where(places < (length - len(before) - len(after))[:, None], bare, 0)
    return torch.where(has[:, None], bare, tokens)


class PretrainedAudioFrontend(PretrainedFrontend):
    """
    Waveform (.., samples) at 16 kHz, int16 or float32 in [-1, 1] -> hidden states (.., features, positions).

    The encoder's feature extractor normalises the waveform, or makes its spectrogram, on the CPU.
    """

    modality = "audio"
    sample_dims = 1

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.scale = ScaleIntegers()
        self.extractor = feature_extractor(self.recorded["feature_extractor"])

    def build(self, pretrained: bool) -> nn.Module:
        return build_transformer(self.spec["transformers"], self.recorded, pretrained)

    def encode(self, inputs: Shaped[Tensor, "batch samples"]) -> Float[Tensor, "batch features positions"]:
        sounds = list(self.scale(inputs, torch.float32).cpu().numpy())
        prepared = self.extractor(sounds, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        name = self.extractor.model_input_names[0]
        values = prepared[name].to(inputs.device, self.encoder_dtype)
        return hidden_states(self.encoder, self.layer, **{name: values}).transpose(1, 2)


class PretrainedImageFrontend(PretrainedFrontend):
    """
    Pixels (.., 3, H, W), uint8 or float32 in [0, 1] -> the backbone's last feature map (.., features, positions), row
    by row, a transformer's class token first.
    """

    modality = "image"
    sample_dims = 3

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.scale = ScaleIntegers()

    def build(self, pretrained: bool) -> nn.Module:
        if pretrained:
            return timm.create_model(timm_name(self.spec["timm"]), pretrained=True, num_classes=0)
        arguments = {**self.recorded["model_args"], "num_classes": 0}
        return timm.create_model(self.recorded["architecture"], pretrained=False, **arguments)

    def encode(self, inputs: Shaped[Tensor, "batch colours height width"]) -> Float[Tensor, "batch features positions"]:
        if inputs.dim() != 4 or inputs.shape[1] != 3:
            raise ValueError(f"an image has shape {tuple(inputs.shape[1:])}, but the encoder takes (3, height, width)")
        size, mode = self.recorded["input_size"], self.recorded["interpolation"]
        pixels = self.scale(inputs, torch.float32)
        if pixels.shape[2:] != (size, size):
            pixels = F.interpolate(pixels, size=(size, size), mode=mode, antialias=True).clamp(0, 1)
        mean, std = (pixels.new_tensor(self.recorded[name])[:, None, None] for name in ("mean", "std"))
        features = self.encoder.forward_features(((pixels - mean) / std).to(self.encoder_dtype))
        if features.dim() == 4:  # channels first, or last as in Swin
            channels_first = features.shape[1] == self.num_features
            return features.flatten(2) if channels_first else features.flatten(1, 2).transpose(1, 2)
        return features.transpose(1, 2)

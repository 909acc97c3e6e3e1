"""
The image modality: how pixels become a sequence of features.

In order:

1. The raw front end (`ImageEmbedding`): linear patches of pixels. With `image_signal_side` an image is instead
   flattened to a signal (`ImageSignals`) that the audio embedding reads.
2. The fitted front end: responses of a dictionary of patches (`PatchDictionaryFrontend`), read by a convolutional
   embedding (`ImageStem`) and summarised for the descriptor by `quadrant_means`.
3. The pretrained front end: a frozen encoder of timm (`PretrainedImageFrontend`), read by the embedding
   `PretrainedImageStem`; pretrained_encoder.py has its descriptor statistics.
4. The registration of the three.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_msmaml import MSMAMLConfig
from .descriptors import DescriptorStatistics, fixed_normal
from .encoder_registry import timm_name
from .modalities import FittedFrontend, ModalityEmbedding, ScaleIntegers, register_modality
from .norms import make_group_norm
from .pretrained_encoder import PretrainedFrontend, PretrainedStem
from .products import linear

# Variances that regularise the contrast normalisation and the whitening of patches. (Coates et al. 2011, section 3.2,
# use 10, for pixels from 0 to 255, and 0.1.)
CONTRAST_FLOOR = 1.5e-3
WHITENING_FLOOR = 0.1
ACTIVATION_THRESHOLD = 0.5  # subtracted from a response before it is rectified
CACHED_IMAGES = 8  # number of images that the CPU handles at once
DICTIONARY_PATCHES = 20_000  # number of patches to which the dictionary is fitted
DICTIONARY_ITERATIONS = 10  # of k-means


class ImageSignals(ScaleIntegers):
    """
    Maps images (.., colours, height, width) to 1-D signals (.., colours * side**2): images are scaled as by
    `ScaleIntegers`, resized, and flattened colour by colour and row by row. See `image_signal_side` in
    [`MSMAMLConfig`].
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        self.side, self.image_shape = config.image_signal_side, (config.image_channels, *2 * (config.image_size,))

    def forward(
        self, inputs: Shaped[Tensor, "*leading colours height width"], dtype: torch.dtype
    ) -> Float[Tensor, "*leading samples"]:
        check_image_shape(tuple(inputs.shape[-3:]), self.image_shape)
        images = super().forward(inputs, dtype)
        resized = F.interpolate(images.flatten(0, -4), size=2 * (self.side,), mode="bicubic", align_corners=False)
        return resized.reshape(*inputs.shape[:-3], -1)


def check_image_shape(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """
    Checks the shape of an image.

    Raises:
        `ValueError`: the model takes images of another shape.
    """
    if shape != expected:
        raise ValueError(
            f"an image has shape {shape}, but this model takes {expected}: colours first, in the size of its config; "
            "the processor that was saved with it resizes"
        )


class PixelPatches(nn.Module):
    """
    A 2-D convolution without bias whose stride equals its kernel size, computed as one matrix product. The patches
    follow one another row by row.

    Its parameter has the name that timm's `PatchEmbed` gives it (`proj.weight`), which is also that of the published
    checkpoints. These store a bias too, which the published code does not apply.
    """

    def __init__(self, config: MSMAMLConfig):
        super().__init__()
        size = config.image_patch_size
        self.image_shape = (config.image_channels, config.image_size, config.image_size)
        self.proj = nn.Conv2d(config.image_channels, config.num_channels, size, stride=size, bias=False)

    def forward(self, inputs: Float[Tensor, "batch colours height width"]) -> Float[Tensor, "batch channels patches"]:
        check_image_shape(tuple(inputs.shape[1:]), self.image_shape)
        # The matrix product takes half the time of the convolution.
        size = self.proj.kernel_size[0]
        patches = inputs.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        return linear(patches.flatten(3).flatten(1, 2), self.proj.weight.flatten(1)).transpose(1, 2)


class ImageEmbedding(ModalityEmbedding):
    """Maps pixels (batch, image_channels, H, W) in [0, 1] to sequences (batch, C, patches), patches row by row."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.patches = PixelPatches(config)

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return ImageSignals(config) if config.image_signal_side else ScaleIntegers()

    def forward(self, inputs: Float[Tensor, "batch colours height width"]) -> Float[Tensor, "batch channels length"]:
        return self.patches(inputs)


class PatchDictionaryFrontend(FittedFrontend):
    """
    Maps pixels (.., colours, H, W) to the responses of a dictionary of K image patches (.., 2K, H', W').

    Each patch of the image is normalised in contrast, whitened and compared with K centroids of unit length, which
    spherical k-means has found. Responses of both signs are rectified and averaged over 3 x 3 positions (Coates, Ng and
    Lee 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning"; Coates and Ng 2011 for the two
    signs). Their square root is taken, which evens out large responses.
    """

    sample_dims = 3
    filters: Float[Tensor, "values K"]
    offsets: Float[Tensor, " K"]

    def __init__(self, config: MSMAMLConfig):
        super().__init__(2 * config.patch_dictionary_size)
        self.scale = ScaleIntegers()
        self.patch_size = config.dictionary_patch_size
        self.image_shape = (config.image_channels, config.image_size, config.image_size)
        values = config.image_channels * self.patch_size**2
        # The response is (normalised patch @ filters + offsets), which includes the whitening.
        self.register_buffer("filters", torch.zeros(values, config.patch_dictionary_size))
        self.register_buffer("offsets", torch.zeros(config.patch_dictionary_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        init.copy_(self.filters, F.normalize(fixed_normal(self.filters.shape), dim=0))
        init.zeros_(self.offsets)

    def fit(self, rows: Shaped[Tensor, "samples colours height width"], generator: torch.Generator) -> None:
        """Fits the dictionary to random patches of the training images, then the scale of its responses."""
        patches = self._random_patches(rows, generator)
        mean = patches.mean(dim=0)
        values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
        whitening = vectors @ torch.diag((values + WHITENING_FLOOR).rsqrt()) @ vectors.T
        centroids = spherical_kmeans((patches - mean) @ whitening, self.filters.shape[1], generator)
        self.filters.copy_(whitening @ centroids.T)
        self.offsets.copy_(-mean @ self.filters)
        super().fit(rows, generator)

    def _random_patches(self, rows: Tensor, generator: torch.Generator) -> Float[Tensor, "patches values"]:
        size, height, width = self.patch_size, *rows.shape[-2:]
        which = torch.randint(len(rows), (DICTIONARY_PATCHES,), generator=generator)
        tops = torch.randint(height - size + 1, (DICTIONARY_PATCHES,), generator=generator)
        lefts = torch.randint(width - size + 1, (DICTIONARY_PATCHES,), generator=generator)
        corners = zip(which.tolist(), tops.tolist(), lefts.tolist(), strict=True)
        patches = torch.stack([rows[i, :, y : y + size, x : x + size].flatten() for i, y, x in corners])
        return normalise_contrast(self.scale(patches, torch.float32))

    def maps(
        self, inputs: Shaped[Tensor, "batch colours height width"], dtype: torch.dtype
    ) -> Float[Tensor, "batch features rows columns"]:
        check_image_shape(tuple(inputs.shape[1:]), self.image_shape)
        # A few images at a time fit into the cache of the CPU.
        parts = inputs.split(CACHED_IMAGES) if inputs.device.type == "cpu" else (inputs,)
        return torch.cat([self._responses(self.scale(part, dtype)) for part in parts])

    def _responses(
        self, pixels: Float[Tensor, "batch colours height width"]
    ) -> Float[Tensor, "batch features rows columns"]:
        size, dtype = self.patch_size, pixels.dtype
        filters = self.filters.to(dtype)
        kernels = filters.T.unflatten(1, (-1, size, size)).contiguous(memory_format=torch.channels_last)
        sums, offsets = filters.sum(dim=0)[:, None, None], self.offsets.to(dtype)[:, None, None]
        # filter . (patch - mean) / deviation is computed as (filter . patch - mean * sum(filter)) / deviation.
        mean = F.avg_pool2d(pixels.mean(dim=1, keepdim=True), size, stride=1)
        square = F.avg_pool2d(pixels.square().mean(dim=1, keepdim=True), size, stride=1)
        precision = (square - mean.square() + CONTRAST_FLOOR).rsqrt()
        responses = F.conv2d(pixels.contiguous(memory_format=torch.channels_last), kernels)
        responses.addcmul_(mean, sums, value=-1).mul_(precision).add_(offsets - ACTIVATION_THRESHOLD)
        positive = F.avg_pool2d(F.relu(responses), 3)
        negative = F.avg_pool2d(responses.neg_().sub_(2 * ACTIVATION_THRESHOLD).relu_(), 3)
        return torch.cat([positive, negative], dim=1).sqrt()


def normalise_contrast(patches: Float[Tensor, "... values"]) -> Float[Tensor, "... values"]:
    """Returns each patch with zero mean and about unit variance."""
    variance, mean = torch.var_mean(patches, dim=-1, correction=0, keepdim=True)
    return (patches - mean) * (variance + CONTRAST_FLOOR).rsqrt()


def spherical_kmeans(
    points: Float[Tensor, "points values"], clusters: int, generator: torch.Generator
) -> Float[Tensor, "clusters values"]:
    """Returns centroids of unit length. A point belongs to the centroid with which its inner product is largest."""
    start = torch.randperm(len(points), generator=generator)[:clusters]
    centroids = F.normalize(points[start])
    for _ in range(DICTIONARY_ITERATIONS):
        nearest = (points @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        # A cluster without points keeps its centroid.
        centroids = F.normalize(torch.where(sums.any(dim=1, keepdim=True), sums, centroids))
    return centroids


class ImageStem(ModalityEmbedding):
    """Maps patch responses (batch, features, rows, columns) to sequences (batch, C, rows * columns / 4), row by row."""

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        hidden = config.num_channels + config.num_channels // 2
        self.convolutions = nn.Sequential(
            nn.Conv2d(2 * config.patch_dictionary_size, hidden, 1),
            make_group_norm(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, config.num_channels, 3, padding=1),
            make_group_norm(config.num_channels),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        )

    @classmethod
    def frontend(cls, config: MSMAMLConfig) -> nn.Module:
        return PatchDictionaryFrontend(config)

    @classmethod
    def statistics(cls, config: MSMAMLConfig) -> DescriptorStatistics:
        return DescriptorStatistics(quadrant_means, 8 * config.patch_dictionary_size)

    def forward(self, inputs: Float[Tensor, "batch features rows columns"]) -> Float[Tensor, "batch channels length"]:
        return self.convolutions(inputs).flatten(2)


def quadrant_means(maps: Float[Tensor, "batch features rows columns"]) -> Float[Tensor, "batch 4*features"]:
    """Returns the mean over each quarter of the image."""
    return F.adaptive_avg_pool2d(maps, 2).flatten(1)


class PretrainedImageFrontend(PretrainedFrontend):
    """
    Maps pixels (.., 3, H, W), uint8 or float32 in [0, 1], to the last feature map of a frozen encoder
    (.., features, positions), row by row. The class token of a transformer comes first.
    """

    modality = "image"
    sample_dims = 3
    encoder: Any  # a model of timm

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config)
        self.scale = ScaleIntegers()

    def build(self, pretrained: bool) -> nn.Module:
        import timm  # imported here because only models with an image encoder need it

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


class PretrainedImageStem(PretrainedStem):
    """Maps the feature map of the encoder to sequences, see `PretrainedStem`."""

    frontend_class = PretrainedImageFrontend


register_modality("image", ImageEmbedding)
register_modality("image", ImageStem, front_ends="fitted")
register_modality("image", PretrainedImageStem, front_ends="pretrained")

"""
Frontends that are fitted to unlabelled training data instead of being trained: raw inputs to feature maps.

They turn a sample into a map of features that suits its modality before any gradient: the log-mel spectrogram of a
sound, inverse-document-frequency weighted word vectors of a text, the responses of a dictionary of image patches. All
they hold are buffers; the outer loop does not change them, and no gradient is taken through them.
"""

import torch
import torch.nn.functional as F
import torchaudio
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from transformers import initialization as init

from .autocast import autocast
from .configuration_msmaml import MSMAMLConfig
from .modality_embeddings import ScaleIntegers, WordVectors, check_image_shape

SAMPLING_RATE = 16_000  # Hz
WINDOW_SAMPLES, HOP_SAMPLES = 512, 400
MEL_FLOOR = 1e-4  # added to the mel power before the logarithm; full scale is 1
# Regularises the contrast normalisation and the whitening of patches (Coates et al. 2011, section 3.2, use 10 for
# pixels from 0 to 255, and 0.1).
CONTRAST_FLOOR = 1.5e-3
WHITENING_FLOOR = 0.1
ACTIVATION_THRESHOLD = 0.5
CACHED_IMAGES = 8
DEVIATION_FLOOR = 0.05  # of the square root of a word's count in a sample
DICTIONARY_PATCHES = 20_000
DICTIONARY_ITERATIONS = 10


class FittedFrontend(nn.Module):
    """Base class: maps of channels, each with zero mean and unit variance over the training samples."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.register_buffer("channel_mean", torch.zeros(num_channels))
        self.register_buffer("channel_std", torch.ones(num_channels))

    def reset_parameters(self) -> None:
        """The state before fitting."""
        init.zeros_(self.channel_mean)
        init.ones_(self.channel_std)

    def maps(self, inputs: Shaped[Tensor, "batch ..."], dtype: torch.dtype) -> Float[Tensor, "batch channels ..."]:
        """Of raw inputs, before the channels are standardised."""
        raise NotImplementedError

    def fit(self, rows: Shaped[Tensor, "samples ..."], generator: torch.Generator) -> None:
        """Fits everything to raw training samples; `generator` draws what is drawn."""
        maps = torch.cat([self.maps(part, torch.float32) for part in rows.split(256)])
        other = [0, *range(2, maps.dim())]
        self.channel_mean.copy_(maps.mean(dim=other))
        self.channel_std.copy_(maps.std(dim=other).clamp(min=1e-6))

    @torch.no_grad()
    def forward(self, inputs: Shaped[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
        leading = inputs.shape[: inputs.dim() - self.sample_dims]
        maps = self.maps(inputs.flatten(0, len(leading) - 1), dtype)
        shape = (-1, *[1] * (maps.dim() - 2))
        maps = (maps - self.channel_mean.to(dtype).view(shape)) / self.channel_std.to(dtype).view(shape)
        return maps.unflatten(0, leading)


class LogMelFrontend(FittedFrontend):
    """
    Waveform (.., samples) at 16 kHz, int16 or in [-1, 1] -> logarithm of the power in mel bands from 20 Hz to 8 kHz
    (.., mels, frames), in windows of 32 ms every 25 ms.
    """

    sample_dims = 1

    def __init__(self, config: MSMAMLConfig):
        super().__init__(config.num_mels)
        self.scale = ScaleIntegers()
        self.register_buffer("window", torch.zeros(WINDOW_SAMPLES))
        self.register_buffer("mel_filters", torch.zeros(WINDOW_SAMPLES // 2 + 1, config.num_mels))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        init.copy_(self.window, torch.hann_window(WINDOW_SAMPLES))
        bands, mels = self.mel_filters.shape
        filters = torchaudio.functional.melscale_fbanks(bands, 20.0, SAMPLING_RATE / 2, mels, SAMPLING_RATE)
        init.copy_(self.mel_filters, filters)

    def maps(self, inputs: Shaped[Tensor, "batch samples"], dtype: torch.dtype) -> Float[Tensor, "batch mels frames"]:
        # Spectra and their logarithms need float32 whatever the model computes in.
        precision = torch.promote_types(dtype, torch.float32)
        with autocast(inputs.device.type, enabled=False):
            spectrum = torchaudio.functional.spectrogram(
                self.scale(inputs, precision),
                pad=0,
                window=self.window.to(precision),
                n_fft=WINDOW_SAMPLES,
                hop_length=HOP_SAMPLES,
                win_length=WINDOW_SAMPLES,
                power=None,
                normalized=False,
            )
            # Not torchaudio's power=2, which takes a root and squares it: more than twice the time.
            power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
            mel_power = power.transpose(1, 2) @ self.mel_filters.to(precision)
            return (mel_power + MEL_FLOOR).log().transpose(1, 2).to(dtype)


class WeightedWordsFrontend(WordVectors):
    """
    Token ids (.., tokens) -> word vectors, weighted and summed over `text_patch_size` tokens, (.., size, positions).

    A word that occurs n times in a sample counts sqrt(n) there in all, each time 1 / sqrt(n): sublinear term frequency
    (Manning et al. 2008, section 6.4.1, with a square root for the logarithm). The weights of words are part
    of their vectors, so that the sum over positions is the sample's latent
    semantic representation (Deerwester et al. 1990) where `fit` has made the word vectors.
    """

    def __init__(self, config: MSMAMLConfig, **weights):
        super().__init__(config.vocab_size, config.word_vector_size, padding_idx=0, **weights)
        self.patch_size = config.text_patch_size

    def fit(self, rows: Int[Tensor, "samples tokens"], generator: torch.Generator) -> None:
        """
        Replaces the word vectors by those of latent semantic analysis: the principal directions of the samples' vectors
        of sqrt(count) / (its standard deviation + 0.05). A word that fewer than two samples have gets a zero vector.

        Weights by standard deviation take the place of inverse document frequencies; they also tell common words apart
        whose frequency varies much from those that are everywhere alike (Burrows 2002, "Delta").
        """
        counts = torch.zeros(len(rows), self.num_embeddings, device=rows.device)
        counts.scatter_add_(1, rows.long(), torch.ones_like(rows, dtype=counts.dtype))
        counts[:, self.padding_idx] = 0
        weights = ((counts > 0).sum(dim=0) > 1) / (counts.sqrt().std(dim=0) + DEVIATION_FLOOR)
        weighted = counts.sqrt() * weights
        # The directions from the samples' inner products, of which there are fewer than of words.
        centred = weighted - weighted.mean(dim=0)
        values, vectors = torch.linalg.eigh((centred @ centred.T).double())
        kept = min(self.embedding_dim, len(rows) - 1)
        scale = values[-kept:].clamp(min=1e-12).rsqrt()
        directions = centred.T @ (vectors[:, -kept:] * scale).flip(1).float()
        self.weight.data.zero_()
        self.weight.data[:, :kept] = (weights[:, None] * directions).to(self.weight)

    def forward(self, inputs: Int[Tensor, "... tokens"], dtype: torch.dtype) -> Float[Tensor, "... size positions"]:
        vectors = super().forward(inputs, dtype) * occurrences(inputs).to(dtype).rsqrt()[..., None]
        rest = -inputs.shape[-1] % self.patch_size
        return F.pad(vectors, (0, 0, 0, rest)).unflatten(-2, (-1, self.patch_size)).sum(dim=-2).transpose(-1, -2)


def occurrences(tokens: Int[Tensor, "... tokens"]) -> Int[Tensor, "... tokens"]:
    """How often each token of a sample occurs in it."""
    tokens = tokens.contiguous()
    ordered = tokens.sort(dim=-1).values
    return torch.searchsorted(ordered, tokens, right=True) - torch.searchsorted(ordered, tokens)


class PatchDictionaryFrontend(FittedFrontend):
    """
    Pixels (.., colours, H, W) -> responses of a dictionary of image patches (.., 2K, H', W').

    Patches are normalised in contrast, whitened and compared with K unit-length centroids found by spherical k-means;
    rectified responses of both signs are averaged over 3 x 3 positions (Coates, Ng and Lee 2011, "An Analysis of
    Single-Layer Networks in Unsupervised Feature Learning"; Coates and Ng 2011 for the two signs). The square root
    evens out large responses.
    """

    sample_dims = 3

    def __init__(self, config: MSMAMLConfig):
        super().__init__(2 * config.patch_dictionary_size)
        self.scale = ScaleIntegers()
        self.patch_size = config.dictionary_patch_size
        self.image_shape = (config.image_channels, config.image_size, config.image_size)
        values = config.image_channels * self.patch_size**2
        # Response = normalised patch @ filters + offsets, whitening included.
        self.register_buffer("filters", torch.zeros(values, config.patch_dictionary_size))
        self.register_buffer("offsets", torch.zeros(config.patch_dictionary_size))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        init.copy_(self.filters, F.normalize(torch.randn(self.filters.shape), dim=0))
        init.zeros_(self.offsets)

    def fit(self, rows: Shaped[Tensor, "samples colours height width"], generator: torch.Generator) -> None:
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
        # A few at a time stay in the processor's cache.
        parts = inputs.split(CACHED_IMAGES) if inputs.device.type == "cpu" else (inputs,)
        return torch.cat([self._responses(self.scale(part, dtype)) for part in parts])

    def _responses(
        self, pixels: Float[Tensor, "batch colours height width"]
    ) -> Float[Tensor, "batch features rows columns"]:
        size, dtype = self.patch_size, pixels.dtype
        filters = self.filters.to(dtype)
        kernels = filters.T.unflatten(1, (-1, size, size)).contiguous(memory_format=torch.channels_last)
        sums, offsets = filters.sum(dim=0)[:, None, None], self.offsets.to(dtype)[:, None, None]
        # Each patch minus its mean, over its standard deviation, times a filter: by way of the patch itself.
        mean = F.avg_pool2d(pixels.mean(dim=1, keepdim=True), size, stride=1)
        square = F.avg_pool2d(pixels.square().mean(dim=1, keepdim=True), size, stride=1)
        precision = (square - mean.square() + CONTRAST_FLOOR).rsqrt()
        responses = F.conv2d(pixels.contiguous(memory_format=torch.channels_last), kernels)
        responses.addcmul_(mean, sums, value=-1).mul_(precision).add_(offsets - ACTIVATION_THRESHOLD)
        positive = F.avg_pool2d(F.relu(responses), 3)
        negative = F.avg_pool2d(responses.neg_().sub_(2 * ACTIVATION_THRESHOLD).relu_(), 3)
        return torch.cat([positive, negative], dim=1).sqrt()


def normalise_contrast(patches: Float[Tensor, "... values"]) -> Float[Tensor, "... values"]:
    """Each patch with zero mean and about unit variance."""
    variance, mean = torch.var_mean(patches, dim=-1, correction=0, keepdim=True)
    return (patches - mean) * (variance + CONTRAST_FLOOR).rsqrt()


def spherical_kmeans(
    points: Float[Tensor, "points values"], clusters: int, generator: torch.Generator
) -> Float[Tensor, "clusters values"]:
    """Unit-length centroids; each point belongs to the one with which its inner product is largest."""
    start = torch.randperm(len(points), generator=generator)[:clusters]
    centroids = F.normalize(points[start])
    for _ in range(DICTIONARY_ITERATIONS):
        nearest = (points @ centroids.T).argmax(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, points)
        # A cluster without a point keeps its centroid.
        centroids = F.normalize(torch.where(sums.any(dim=1, keepdim=True), sums, centroids))
    return centroids

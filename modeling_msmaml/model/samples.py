"""Raw samples, read as far as no task changes their way; with dropout that is a function of the task alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from .adapted_parameters import adapts_embeddings
from .configuration_msmaml import MSMAMLConfig
from .execution import map_chunks
from .task_network import TaskNetwork

_BYTES_OF_A_SEED = 4096
_32_BITS = 0xFFFFFFFF


@dataclass
class Samples:
    """
    Samples of T tasks: the frontend's maps (unless nothing after them needs them), the embedding's sequences (if it is
    not adapted), the descriptors (if the modality has any); and what a training step drops of the layers' outputs, as
    factors, where a kind of task network drops anything.
    """

    maps: Float[Tensor, "T samples ..."] | None
    sequences: Float[Tensor, "T samples C L"] | None
    descriptors: Float[Tensor, "T samples size"] | None
    kept: tuple[Float[Tensor, "T samples ..."], ...] = ()


@dataclass
class ReadRows:
    """What `Samples` holds of rows that were read before any task, as far as tasks need it."""

    sequences: Float[Tensor, "rows C L"]
    descriptors: Float[Tensor, "rows size"] | None

    def at(self, numbers: Int[Tensor, "T samples"]) -> Samples:
        """The rows of these numbers."""
        descriptors = None if self.descriptors is None else self.descriptors[numbers]
        return Samples(None, self.sequences[numbers], descriptors)

    @property
    def nbytes(self) -> int:
        """The memory that these rows take, in bytes."""
        return sum(t.nbytes for t in (self.sequences, self.descriptors) if t is not None)


def read_samples(
    raw: Shaped[Tensor, "T samples ..."],
    modality: str,
    frontend: nn.Module,
    descriptor: nn.Module | None,
    network: TaskNetwork,
    dtype: torch.dtype,
    dropout: float = 0.0,
) -> Samples:
    """
    Raw inputs as far as no modulation or adaptation changes their way.

    Args:
        frontend, descriptor: those of the modality, which may have no descriptor.
        dtype: of the model.
        dropout: see `drop_channels`.
    """
    maps = differentiable(frontend(raw, dtype))
    descriptors = None
    if descriptor is not None:
        descriptors = descriptor(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])
    sequences = None
    if not network.adapts_embeddings:
        sequences = network.embed(maps, modality)
        if dropout:
            sequences = drop_channels(sequences, dropout, raw)
    return Samples(maps, sequences, descriptors)


def can_read_rows_once(config: MSMAMLConfig) -> bool:
    """Whether all that tasks need of a sample is what neither modulation nor adaptation changes."""
    shared = config.conditioning == "none" or config.share_embeddings
    return shared and not adapts_embeddings(config)


@torch.no_grad()
def read_rows(
    parts: Sequence[Callable[[], Shaped[Tensor, "batch ..."]]],
    read: Callable[[Shaped[Tensor, "1 batch ..."]], Samples],
    device: torch.device,
) -> ReadRows:
    """
    Reads the raw inputs that the functions `parts` return, one after the other, by `read` on `device`. Not more parts
    than there are threads are in memory at a time.

    Raises:
        `ValueError`: `read` gives no sequences, since the model adapts its embeddings.
    """

    def read_part(part: Callable[[], Shaped[Tensor, "batch ..."]]) -> ReadRows:
        samples = read(part().to(device)[None])
        if samples.sequences is None:
            raise ValueError("rows cannot be read once: the inner loop adapts the embeddings that read them")
        return ReadRows(samples.sequences[0], None if samples.descriptors is None else samples.descriptors[0])

    found = map_chunks(read_part, parts, device)
    descriptors = [part.descriptors for part in found if part.descriptors is not None]
    return ReadRows(torch.cat([part.sequences for part in found]), torch.cat(descriptors) if descriptors else None)


def differentiable(tensor: Tensor) -> Tensor:
    """The tensor itself, or a copy of one of inference mode, which autograd refuses."""
    return tensor.clone() if tensor.is_inference() else tensor


def drop_channels(
    sequences: Float[Tensor, "T samples channels length"], rate: float, raw: Shaped[Tensor, "T samples ..."]
) -> Float[Tensor, "T samples channels length"]:
    """
    Sets each channel of each sample to zero with probability `rate`, in [0, 1), and scales the others by
    1 / (1 - rate) (Srivastava et al. 2014; of whole channels: Tompson et al. 2015, arXiv 1411.4280).

    The sequences are those that every inner step starts from, so that all inner gradients are of one function. What is
    dropped follows from the raw samples, not from a global state: neither chunks, processes nor a resume change it, and
    no device makes another choice.
    """
    return sequences * (_kept(sequences, rate, task_seeds(raw)).to(sequences) / (1 - rate))[..., None]


def task_seeds(raw: Shaped[Tensor, "T samples ..."]) -> Int[Tensor, " T"]:
    """A number from 0 to 2^32 - 1 for each task, exact integer arithmetic on (at most 8192) bytes of its samples."""
    content = raw.detach().flatten(1).contiguous().view(torch.uint8)
    every = max(1, content.shape[1] // _BYTES_OF_A_SEED) | 1  # odd, to meet each byte of a number
    content = content[:, ::every].long()
    return mixed_bits(content + 256 * torch.arange(content.shape[1], device=content.device)).sum(dim=1) & _32_BITS


def _kept(sequences: Tensor, rate: float, seeds: Int[Tensor, " T"]) -> Bool[Tensor, "T samples channels"]:
    """Which channels stay."""
    samples, channels = sequences.shape[1:3]
    numbers = random_numbers(seeds, samples * channels)
    return (numbers >= int(rate * 2**32)).unflatten(1, (samples, channels))


def random_numbers(seeds: Int[Tensor, " T"], size: int) -> Int[Tensor, "T size"]:
    """Numbers from 0 to 2^32 - 1 that follow from the seed of a task, a number from 0 to 2^32 - 1, and their place."""
    places = mixed_bits(torch.arange(size, device=seeds.device))
    return mixed_bits((mixed_bits(seeds)[:, None] + places) & _32_BITS)


def mixed_bits(numbers: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A permutation of 0 to 2^32 - 1 without visible order: MurmurHash3's last step (Appleby 2011, fmix32)."""
    numbers = ((numbers ^ (numbers >> 16)) * 0x85EBCA6B) & _32_BITS
    numbers = ((numbers ^ (numbers >> 13)) * 0xC2B2AE35) & _32_BITS
    return numbers ^ (numbers >> 16)

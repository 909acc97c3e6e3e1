"""The layers against their PyTorch counterparts in float64, at the shapes that really occur, with 1 and 2 threads."""

import pytest
import torch
import torch.nn.functional as F

from modeling_msmaml.model.convolution import conv1d
from modeling_msmaml.model.modalities import ScaleIntegers, SequencePatches
from modeling_msmaml.model.modality_image import ImageEmbedding
from modeling_msmaml.model.modality_text import WordVectors
from modeling_msmaml.model.modulation import modulation_factors
from modeling_msmaml.model.norms import affine_norm, batch_statistics

from ..toys import tiny_config

# (in_channels, out_channels, length): audio and whole documents, images, passages of 600 tokens.
TASK_NETWORK_SHAPES = [
    (channels, 64 if channels == 32 and layer else channels if layer == 0 else 2 * channels, length)
    for lengths in ((250, 124, 61, 30), (256, 127, 63, 31), (50, 24, 11, 5))
    for layer, (channels, length) in enumerate(zip((32, 32, 64, 128), lengths, strict=True))
]


def gradients(function, inputs, weight, bias):
    tensors = [tensor.clone().requires_grad_() for tensor in (inputs, weight, bias)]
    output = function(*tensors)
    first = torch.autograd.grad(output.square().sum(), tensors, create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first), tensors)
    return output, first, second


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(5, 2, 1), (3, 1, 1)])
@pytest.mark.parametrize(("in_channels", "out_channels", "length"), TASK_NETWORK_SHAPES)
def test_convolution_is_exact(in_channels, out_channels, length, kernel, stride, padding, threads):
    generator = torch.Generator().manual_seed(length)
    inputs = torch.randn(5, in_channels, length, generator=generator)
    weight = torch.randn(out_channels, in_channels, kernel, generator=generator) / (in_channels * kernel) ** 0.5
    bias = torch.randn(out_channels, generator=generator)

    def one_task(*tensors):
        return conv1d(*(tensor[None] for tensor in tensors), stride, padding)[0]

    ours = gradients(one_task, inputs, weight, bias)
    exact = gradients(
        lambda *tensors: F.conv1d(*tensors, stride, padding), inputs.double(), weight.double(), bias.double()
    )
    for actual, expected in zip((ours[0], *ours[1], *ours[2]), (exact[0], *exact[1], *exact[2]), strict=True):
        assert (actual.double() - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_each_task_is_convolved_with_its_own_kernel():
    inputs, weight, bias = torch.randn(3, 2, 4, 9), torch.randn(3, 5, 4, 3), torch.randn(3, 5)
    actual = conv1d(inputs, weight, bias, stride=2, padding=1)
    for task in range(3):
        torch.testing.assert_close(actual[task], F.conv1d(inputs[task], weight[task], bias[task], 2, 1))


def test_convolution_refuses_a_sequence_shorter_than_its_kernel():
    with pytest.raises(ValueError, match=r"2 positions.*kernel_size=5"):
        conv1d(torch.zeros(1, 1, 3, 2), torch.zeros(1, 4, 3, 5), torch.zeros(1, 4), stride=2, padding=1)


def test_batch_norm_is_that_of_pytorch_for_each_task():
    generator = torch.Generator().manual_seed(0)
    inputs = 3 + 2 * torch.randn(2, 4, 6, 7, dtype=torch.float64, generator=generator)
    scale, shift = torch.randn(2, 2, 6, dtype=torch.float64, generator=generator)
    actual = affine_norm(inputs, batch_statistics(inputs), scale, shift, eps=1e-5)
    for task in range(2):
        expected = F.batch_norm(inputs[task], None, None, scale[task], shift[task], training=True, eps=1e-5)
        torch.testing.assert_close(actual[task], expected)


def test_modulation_formulas():
    m = torch.tensor([[0.5, -1.0]])
    scale, shift = modulation_factors(torch.tensor([[0.5, -1.0, 10.0, 20.0]]), "affine")
    torch.testing.assert_close((scale, shift), (torch.tensor([[1.5, 0.0]]), torch.tensor([[10.0, 20.0]])))
    scale, shift = modulation_factors(m, "sigmoid")
    torch.testing.assert_close(scale, 1 / (1 + torch.exp(-m)))
    assert shift == 0
    scale, shift = modulation_factors(m, "softmax")
    torch.testing.assert_close(scale, torch.exp(m) / torch.exp(m).sum())
    assert shift == 0
    with pytest.raises(ValueError, match="film"):
        modulation_factors(m, "film")


def test_patches_are_a_convolution_with_stride_equal_to_kernel():
    patches = SequencePatches(3, 4, patch_size=5).double()
    inputs = torch.randn(2, 23, 3, dtype=torch.float64)
    expected = F.conv1d(inputs.transpose(1, 2), patches.weight, stride=5)
    torch.testing.assert_close(patches(inputs), expected)


def test_image_patches_run_row_by_row():
    embedding = ImageEmbedding(tiny_config()).double()
    images = torch.rand(2, 3, 6, 6, dtype=torch.float64)
    expected = F.conv2d(images, embedding.patches.proj.weight, stride=2).flatten(2)
    torch.testing.assert_close(embedding(images), expected)
    assert embedding.patches.proj.bias is None


def test_integers_are_scaled_and_floats_are_not():
    scale = ScaleIntegers()
    torch.testing.assert_close(
        scale(torch.tensor([-32767, 0, 32767], dtype=torch.int16), torch.float32), torch.tensor([-1.0, 0.0, 1.0])
    )
    torch.testing.assert_close(
        scale(torch.tensor([0, 255], dtype=torch.uint8), torch.float32), torch.tensor([0.0, 1.0])
    )
    torch.testing.assert_close(scale(torch.tensor([0.25]), torch.float64), torch.tensor([0.25], dtype=torch.float64))
    with pytest.raises(ValueError, match="int64"):
        scale(torch.tensor([1]), torch.float32)


def test_token_ids_outside_of_the_vocabulary_are_refused():
    vectors = WordVectors(5, 3, padding_idx=0)
    with pytest.raises(ValueError, match="vocab_size=5"):
        vectors(torch.tensor([[1, 5]]), torch.float32)
    with pytest.raises(ValueError, match="integer token ids"):
        vectors(torch.tensor([[1.0]]), torch.float32)

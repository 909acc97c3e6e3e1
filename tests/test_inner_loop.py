"""The inner loop's derivatives, with and without recomputation, and what it keeps in memory."""

import gc

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck

from benchmarks.memory import peak_of_tensors, resident_memory
from modeling_msmaml.convolution import conv1d
from modeling_msmaml.normalisation import affine_norm, batch_statistics
from modeling_msmaml.normalised_convolution import conv_norm_relu
from modeling_msmaml.recomputation import recomputed

from .test_outer_gradient import gradients
from .toys import tiny_episodes, tiny_model


def sample(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "length"),
    [(5, 2, 1, 8), (3, 1, 1, 5), (2, 3, 0, 7), (1, 1, 0, 4), (4, 2, 3, 6), (5, 5, 0, 11), (7, 3, 2, 7)],
)
def test_convolution_has_right_first_and_second_derivatives(kernel, stride, padding, length):
    torch.manual_seed(0)
    arguments = sample(2, 2, 3, length), sample(2, 4, 3, kernel), sample(2, 4)
    expected = torch.stack([torch.nn.functional.conv1d(*one, stride, padding) for one in zip(*arguments, strict=True)])
    torch.testing.assert_close(conv1d(*arguments, stride, padding), expected)
    assert gradcheck(lambda *tensors: conv1d(*tensors, stride, padding), arguments)
    assert gradgradcheck(lambda *tensors: conv1d(*tensors, stride, padding), arguments)


def test_convolution_of_constant_inputs_has_right_derivatives():
    torch.manual_seed(0)
    inputs, weight, bias = sample(1, 2, 3, 8).detach(), sample(1, 4, 3, 5), sample(1, 4)
    assert gradgradcheck(lambda *tensors: conv1d(inputs, *tensors, 2, 1), (weight, bias))


def layer_arguments(tasks: int, length: int = 9):
    torch.manual_seed(0)
    return sample(tasks, 3, 2, length), sample(tasks, 4, 2, 5), sample(tasks, 4), sample(tasks, 4), sample(tasks, 4)


def written_layer(inputs, weight, bias, scale, shift):
    """The formula of a layer for autograd."""
    hidden = torch.stack([F.conv1d(*one, 2, 1) for one in zip(inputs, weight, bias, strict=True)])
    return F.relu(affine_norm(hidden, batch_statistics(hidden), scale, shift, eps=0.1))


# One task takes PyTorch's own batch norm, several a written one.
@pytest.mark.parametrize("tasks", [1, 2])
def test_layer_is_the_written_formula_with_right_first_and_second_derivatives(tasks):
    arguments = layer_arguments(tasks)

    def layer(*tensors):
        return conv_norm_relu(*tensors, eps=0.1, stride=2, padding=1)[0]

    torch.testing.assert_close(layer(*arguments), written_layer(*arguments))
    assert gradcheck(layer, arguments)
    assert gradgradcheck(layer, arguments)

    def moments(function):
        output = function(*arguments)
        weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
        first = torch.autograd.grad((output * weights).sum(), arguments, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), arguments, materialize_grads=True)
        return *first, *second

    for actual, expected in zip(moments(layer), moments(written_layer), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("tasks", [1, 2])
def test_layer_of_constant_inputs_and_without_scale_has_right_derivatives(tasks):
    inputs, weight, bias, *_ = layer_arguments(tasks)

    def layer(*tensors):
        return conv_norm_relu(inputs.detach(), *tensors, 1.0, 0.0, eps=0.1, stride=2, padding=1)[0]

    assert gradgradcheck(layer, (weight, bias))


@pytest.mark.parametrize("tasks", [1, 2])
def test_layer_can_be_differentiated_by_the_statistics_of_its_convolution(tasks):
    arguments = layer_arguments(tasks)

    def both(*tensors):
        outputs, convolved = conv_norm_relu(*tensors, eps=0.1, stride=2, padding=1)
        return outputs, *batch_statistics(convolved)

    assert gradcheck(both, arguments)
    assert gradcheck(lambda *tensors: both(*tensors)[1:], arguments)


def test_recomputed_functions_nest_and_may_differentiate_inside():
    torch.manual_seed(0)
    x, y = sample(3), sample(3)

    def inner(x, y):
        (slope,) = (
            torch.autograd.grad((x.sin() * y).sum(), x, create_graph=torch.is_grad_enabled())
            if (x.requires_grad)
            else (x.cos() * y,)
        )
        return slope, (x * y).sum()

    def twice(x, y):
        a, _ = recomputed(inner, x, y)
        return recomputed(inner, a, y)

    expected = torch.autograd.grad(inner(inner(x, y)[0], y)[0].sum(), (x, y))
    actual = torch.autograd.grad(recomputed(twice, x, y)[0].sum(), (x, y))
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_inner_steps": 7, "inner_grad_clip": 0.01},
        {"norm_statistics": "support", "train_word_vectors": True},
        {"first_order": True},
        {"conditioning": "none"},
        {"num_inner_steps": 0},
    ],
    ids=str,
)
def test_checkpointing_changes_no_result(changes, training):
    episodes = tiny_episodes()
    loss, expected = gradients(tiny_model(**changes).train(training), episodes)
    again, actual = gradients(tiny_model(inner_loop_checkpointing=True, **changes).train(training), episodes)
    assert again == loss
    for name, gradient in expected.items():
        if gradient is None:
            assert actual[name] is None, name
        else:
            torch.testing.assert_close(actual[name], gradient, rtol=1e-10, atol=1e-14, msg=name)


def wide_model(**changes):
    """Of a size at which activations take more memory than parameters, as in real use."""
    return tiny_model(torch.float32, num_channels=8, modalities=["image"], image_size=32, **changes)


def wide_episodes(n_query: int = 12):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(4)[None]
    images = [torch.rand(1, samples, 3, 32, 32, generator=generator) for samples in (12, n_query)]
    query_labels = torch.arange(3).repeat_interleave(n_query // 3)[None]
    names = "support", "query", "support_labels", "query_labels"
    return {"image": dict(zip(names, (*images, labels, query_labels), strict=True))}


def peak_of_a_step(episodes, **changes) -> int:
    model = wide_model(**changes)

    def step():
        model.zero_grad()
        model(episodes).loss.backward()

    step()
    return peak_of_tensors(step)


def test_with_checkpointing_memory_does_not_grow_with_the_number_of_inner_steps():
    episodes = wide_episodes()
    few, many = (peak_of_a_step(episodes, num_inner_steps=n, inner_loop_checkpointing=True) for n in (5, 50))
    assert many < 1.1 * few
    assert peak_of_a_step(episodes, num_inner_steps=50) > 3 * many


def test_evaluation_keeps_one_step_s_graph_at_a_time():
    model, episodes = wide_model().eval(), wide_episodes()

    def evaluate(num_inner_steps):
        model.config.num_inner_steps = num_inner_steps
        with torch.no_grad():
            return model(episodes)

    evaluate(5)
    few, many = (peak_of_tensors(lambda n=n: evaluate(n)) for n in (5, 20))
    assert many < 1.02 * few


def test_memory_is_flat_over_200_meta_steps():
    """Steps of every kind: with and without recomputation, in training and in evaluation mode, without a graph."""
    model, episodes = tiny_model(torch.float32), tiny_episodes(["image"], tasks=1)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    tensors, resident = [], []
    for step in range(200):
        model.config.inner_loop_checkpointing = step % 2 == 0
        model.train(step % 3 > 0)
        optimizer.zero_grad()
        model(episodes).loss.backward()
        optimizer.step()
        with torch.no_grad():
            model(episodes)
        if step in (19, 199):
            gc.collect()
            tensors.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
            resident.append(resident_memory())
    assert tensors[1] <= tensors[0]
    assert resident[1] - resident[0] < 4 * 2**20

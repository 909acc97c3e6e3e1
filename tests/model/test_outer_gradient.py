"""Is the outer gradient right? Against finite differences and against a plain loop over tasks, in float64."""

import itertools

import pytest
import torch

from modeling_msmaml import MSMAMLConfig
from modeling_msmaml.model.options import choices

from .. import reference
from ..toys import tiny_episodes, tiny_model

MIXES = [modalities for size in (1, 2, 3) for modalities in itertools.combinations(("audio", "text", "image"), size)]


def gradients(model, episodes):
    model.zero_grad()
    output = model(episodes)
    output.loss.backward()
    return output.loss.detach(), {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


def random_direction(model, names, generator):
    """A random tensor for each of the named parameters."""
    own = dict(model.named_parameters())
    return {name: torch.randn(own[name].shape, generator=generator, dtype=own[name].dtype) for name in names}


@torch.no_grad()
def finite_difference(model, episodes, direction, step):
    """The central difference of the loss along a direction of parameters, which are left where they were."""
    own, losses = dict(model.named_parameters()), []
    for sign in (1, -1):
        for name, along in direction.items():
            own[name] += sign * step * along
        losses.append(model(episodes).loss.item())
        for name, along in direction.items():
            own[name] -= sign * step * along
    return (losses[0] - losses[1]) / (2 * step)


def assert_same_gradients(model, episodes):
    loss, actual = gradients(model, episodes)
    expected_loss, expected = reference.outer_gradient(model, episodes)
    torch.testing.assert_close(loss, expected_loss.detach(), rtol=1e-12, atol=1e-12)
    largest = max(value.abs().max() for value in expected.values() if value is not None)
    for name, gradient in expected.items():
        if gradient is None or actual[name] is None:
            assert gradient is None and actual[name] is None, name
        else:
            torch.testing.assert_close(actual[name], gradient, rtol=1e-8, atol=1e-12 * float(largest), msg=name)


@pytest.mark.parametrize("norm_statistics", choices(MSMAMLConfig, "norm_statistics"))
@pytest.mark.parametrize("conditioning", choices(MSMAMLConfig, "conditioning"))
def test_outer_gradient_agrees_with_finite_differences(conditioning, norm_statistics):
    model = tiny_model(conditioning=conditioning, norm_statistics=norm_statistics, train_word_vectors=True)
    episodes = tiny_episodes()
    _, actual = gradients(model, episodes)
    generator = torch.Generator().manual_seed(1)
    largest = max(gradient.abs().max().item() for gradient in actual.values())
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        if name == "frontends.text.weight":
            direction[0] = 0  # padding is not trained
        direction /= direction.norm()
        numerical = finite_difference(model, episodes, {name: direction}, 1e-6)
        analytical = (actual[name] * direction).sum().item()
        assert analytical == pytest.approx(numerical, rel=1e-4, abs=1e-7 * max(1.0, largest)), name


def test_second_order_differs_from_first_order():
    """Else the finite differences above might hold for either."""
    episodes = tiny_episodes()
    _, second = gradients(tiny_model(), episodes)
    _, first = gradients(tiny_model(first_order=True), episodes)
    name = "task_network.convolutions.0.weight"
    assert (second[name] - first[name]).norm() > 0.01 * second[name].norm()


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("norm_statistics", choices(MSMAMLConfig, "norm_statistics"))
@pytest.mark.parametrize("conditioning", choices(MSMAMLConfig, "conditioning"))
def test_vectorised_tasks_equal_a_loop_over_tasks(conditioning, norm_statistics, first_order):
    model = tiny_model(conditioning=conditioning, norm_statistics=norm_statistics, first_order=first_order)
    assert_same_gradients(model, tiny_episodes(tasks=3))


@pytest.mark.parametrize("modalities", MIXES, ids="-".join)
def test_any_mix_of_modalities_equals_a_loop_over_tasks(modalities):
    assert_same_gradients(tiny_model(), tiny_episodes(modalities))


def test_clamped_inner_gradients_equal_a_loop_over_tasks():
    model, episodes = tiny_model(inner_grad_clip=0.01), tiny_episodes()
    assert_same_gradients(model, episodes)
    assert gradients(model, episodes)[0] != gradients(tiny_model(inner_grad_clip=None), episodes)[0]


@pytest.mark.parametrize("num_inner_steps", [0, 1, 8])
def test_any_number_of_inner_steps_equals_a_loop_over_tasks(num_inner_steps):
    assert_same_gradients(tiny_model(num_inner_steps=num_inner_steps), tiny_episodes())


def test_geometry_of_each_layer_is_configurable():
    model = tiny_model(num_layers=3, kernel_size=[3, 2, 1], stride=[1, 2, 1], padding=[0, 1, 0], num_channels=3)
    assert_same_gradients(model, tiny_episodes())


def test_trained_word_vectors_get_the_plain_loop_gradient_and_padding_none():
    model, episodes = tiny_model(train_word_vectors=True), tiny_episodes()
    assert_same_gradients(model, episodes)
    gradient = model.get_input_embeddings().weight.grad
    assert not gradient[0].any() and gradient[1:].abs().sum() > 0

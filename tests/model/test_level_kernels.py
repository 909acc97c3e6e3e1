"""The learner on levels: reference episodes in float64, invariants, and second-order gradients."""

import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from modeling_msmaml.model.level_kernels import (
    HeadSettings,
    adapted_weights,
    centred_query,
    centred_support,
    centring,
    channel_weights,
    head_logits,
    leave_one_out_loss,
    log_shots,
    mean_cosine_between_classes,
    mixed,
    ridge_regression,
    with_template,
)


class Kernels(NamedTuple):
    """Of the support samples, and of queries and support samples."""

    support: torch.Tensor
    query: torch.Tensor


def centred(kernels: Kernels, share: torch.Tensor) -> Kernels:
    support, query = kernels
    return Kernels(centred_support(support, share), centred_query(support, query, share))


EPISODES = [f"{name}_{shots}" for name in ("clinc", "esc", "omniglot") for shots in (1, 5)]


def reference(folder: Path, key: str):
    told = json.loads((folder / "levels.json").read_text())
    own = next(episode for episode in told["episodes"] if episode["key"] == key)
    tensors = load_file(folder / "levels.safetensors")
    return told, own, {name.split(".")[1]: tensor for name, tensor in tensors.items() if name.startswith(f"{key}.")}


def number(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).squeeze()


@pytest.mark.parametrize("key", EPISODES)
def test_reference_episodes(key, shared_dir):
    told, own, expected = reference(shared_dir / "reference", key)
    n_way, channels, k = own["way"], own["channels"], own["shot"]
    labels = torch.arange(n_way).repeat_interleave(k)[None]
    kernels = Kernels(expected["support_kernels"][None], expected["query_kernels"][None])
    cosines = mean_cosine_between_classes(kernels.support, labels)
    share = centring(cosines, n_way)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(share[0], expected["centring"], **close)
    weights = channel_weights(number(*own["b"]), number(*own["b_log_shot"]), number(math.log(k))[None])
    if own["modality"] == "audio":
        template = torch.tensor([name in ("T/h", "T/w") for name in channels]).double() / 2
        weights = with_template(weights, template, cosines[:, channels.index("A4/c")])
    torch.testing.assert_close(weights[0], expected["weights_before"], **close)
    support, query = centred(kernels, share)
    weights, _ = adapted_weights(
        weights, support, labels, n_way, *map(number, told["inner_log_step_and_log_temperature"]), told["inner_steps"]
    )
    torch.testing.assert_close(weights[0], expected["weights_after"], **close)
    head = HeadSettings(
        *(number(a + b * math.log(k))[None] for a, b in told["head_log_tau_ridge_lambda (a + b log shot)"])
    )
    logits = head_logits(mixed(support, weights), mixed(query, weights), labels, n_way, head)
    torch.testing.assert_close(logits[0], expected["logits"], **close)


def task(seed: int, shots: list[int], n_query: int = 4, channels: int = 3, size: int = 6):
    """Random features of unit length, their kernels and labels: one task."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))[None]
    features = torch.randn(1, channels, labels.shape[1] + n_query, size, generator=generator, dtype=torch.float64)
    features[:, :, : labels.shape[1]] += 2 * torch.nn.functional.one_hot(labels, size)[:, None]
    features = torch.nn.functional.normalize(features + 0.5, dim=-1)
    support, query = features.split([labels.shape[1], n_query], dim=2)
    return features, labels, Kernels(support @ support.transpose(2, 3), query @ support.transpose(2, 3))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 999))
def test_kernels_are_those_of_the_features(shots, seed):
    """Centring on kernels is moving the origin of features; the leave-one-out loss is one of features."""
    features, labels, kernels = task(seed, shots)
    n_way = len(shots)
    share = centring(mean_cosine_between_classes(kernels.support, labels), n_way)
    assert ((share >= 0) & (share <= 1)).all()
    samples = labels.shape[1]
    moved = features - share[..., None, None] * features[:, :, :samples].mean(dim=2, keepdim=True)
    moved = torch.nn.functional.normalize(moved, dim=-1)
    support, query = moved.split([samples, features.shape[2] - samples], dim=2)
    found = centred(kernels, share)
    torch.testing.assert_close(found.support, support @ support.transpose(2, 3), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.query, query @ support.transpose(2, 3), atol=1e-6, rtol=1e-6)
    if max(shots) == 1:
        return
    losses = []
    for i in range(samples):
        if shots[labels[0, i]] == 1:
            continue
        others = [j for j in range(samples) if j != i]
        prototypes = torch.stack(
            [support[0, 0, [j for j in others if labels[0, j] == c]].sum(dim=0) for c in range(n_way)]
        )
        cosines = prototypes @ support[0, 0, i] / prototypes.norm(dim=1).clamp(min=1e-2)
        losses.append(torch.nn.functional.cross_entropy(3 * cosines, labels[0, i]))
    found = leave_one_out_loss(found.support[:, 0], labels, n_way, number(3.0))
    torch.testing.assert_close(found[0], torch.stack(losses).mean())


def test_ridge_regression_is_that_of_features_with_an_intercept():
    features, labels, kernels = task(0, [3, 2, 4])
    samples = labels.shape[1]
    support, query = features[0, 0, :samples], features[0, 0, samples:]
    members = torch.nn.functional.one_hot(labels, 3).double()
    mean = support.mean(dim=0)
    inner = (support - mean).T @ (support - mean) + 0.3 * torch.eye(6, dtype=torch.float64)
    weights = torch.linalg.solve(inner, (support - mean).T @ (members[0] - members[0].mean(dim=0)))
    found = ridge_regression(kernels.support[:, 0], kernels.query[:, 0], members, number(0.3)[None])
    torch.testing.assert_close(found[0], (query - mean) @ weights)


def test_second_order_gradients_of_the_whole_learner():
    _, labels, kernels = task(1, [2, 3, 1])

    def loss(start, log_step, log_temperature, head):
        weights = channel_weights(start, start / 3, log_shots(labels, 3).double())
        share = centring(mean_cosine_between_classes(kernels.support, labels), 3)
        support, query = centred(kernels, share)
        weights, losses = adapted_weights(weights, support, labels, 3, log_step, log_temperature, 3)
        settings = HeadSettings(*head[:, None])
        logits = head_logits(mixed(support, weights), mixed(query, weights), labels, 3, settings)
        return torch.nn.functional.cross_entropy(logits[0], torch.tensor([0, 1, 2, 0])) + losses.sum()

    inputs = [number(0.1, -0.2, 0.3), number(-0.5), number(1.0), number(1.0, 0.5, -0.5)]
    assert torch.autograd.gradcheck(loss, [tensor.clone().requires_grad_() for tensor in inputs])


def test_one_sample_per_class_leaves_the_weights_and_takes_prototypes_alone():
    _, labels, kernels = task(2, [1, 1, 1])
    weights = number(0.2, 0.3, 0.5)[None]
    found, losses = adapted_weights(weights, kernels.support, labels, 3, number(0.0), number(1.0), 4)
    assert torch.equal(found, weights) and losses.shape == (1, 4)
    head = HeadSettings(number(2.0)[None], number(9.0)[None], number(0.0)[None])
    logits = head_logits(mixed(kernels.support, weights), mixed(kernels.query, weights), labels, 3, head)
    own = mixed(kernels.support, weights).diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(logits, math.exp(2) * mixed(kernels.query, weights) / own[:, None])


def test_without_a_graph_the_weights_are_the_same():
    _, labels, kernels = task(3, [3, 3])
    weights = number(0.2, 0.3, 0.5)[None]
    arguments = (weights, kernels.support, labels, 2, number(0.2), number(1.0), 5)
    expected, losses = adapted_weights(*arguments)
    with torch.no_grad():
        found, again = adapted_weights(*arguments)
    assert not found.requires_grad and torch.equal(found, expected) and torch.equal(losses, again)
    assert (losses[0, 1:] < losses[0, :-1]).all(), "each step lowers the loss"

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

from modeling_msmaml.model.level_head import (
    centred_targets,
    doubly_centred,
    fitted_head,
    inverse_of,
    leave_one_out_regression,
    ridge_regression,
)
from modeling_msmaml.model.level_inner_loop import adapted_factors, adapted_weights
from modeling_msmaml.model.level_kernels import (
    centred,
    centring,
    channel_weights,
    class_sums,
    leave_one_out_loss,
    log_shots,
    mean_cosine_between_classes,
    mixed_kernel,
    mixed_sums,
    sample_weights,
    shot_corrections,
    with_template,
)


class Channels(NamedTuple):
    """Unit features of each channel, of support samples and queries."""

    support: list[torch.Tensor]
    query: list[torch.Tensor]


def centred_channels(channels: Channels, share: torch.Tensor) -> Channels:
    found = []
    for g, support, query in zip(share[:, :, None, None].unbind(dim=1), *channels, strict=True):
        origin = g * support.mean(dim=1, keepdim=True)
        found.append((centred(support, origin), centred(query, origin)))
    support, query = zip(*found, strict=True)
    return Channels(list(support), list(query))


def cosines_of(channels: Channels, labels: torch.Tensor, n_way: int) -> torch.Tensor:
    return torch.stack([mean_cosine_between_classes(c, labels, n_way) for c in channels.support], dim=1)


def with_these_kernels(support: torch.Tensor, query: torch.Tensor) -> Channels:
    """Features of unit length whose kernels (C, S, S) and (C, Q, S) are given: a query has a dimension of its own."""
    found = []
    for own, outer in zip(support, query, strict=True):
        factor = torch.linalg.cholesky(own)
        inside = torch.linalg.solve_triangular(factor, outer.T, upper=False).T
        outside = (1 - inside.square().sum(dim=1)).clamp(min=0).sqrt()
        rows = torch.nn.functional.pad(factor, (0, 1))
        found.append((rows[None], torch.cat([inside, outside[:, None]], dim=1)[None]))
    return Channels(*(list(part) for part in zip(*found, strict=True)))


def head_logits(channels: Channels, weights, labels, n_way, log_factors):
    head = fitted_head(mixed_kernel(channels.support, channels.support, weights), labels, n_way, log_factors)
    return mixed_kernel(channels.query, channels.support, weights) @ head.coefficients + head.bias[:, None]


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
    channels_of = with_these_kernels(expected["support_kernels"], expected["query_kernels"])
    cosines = cosines_of(channels_of, labels, n_way)
    share = centring(cosines, n_way)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(share[0], expected["centring"], **close)
    weights = channel_weights(number(*own["b"]), number(*own["b_log_shot"]), number(math.log(k))[None])
    if own["modality"] == "audio":
        template = torch.tensor([name in ("T/h", "T/w") for name in channels]).double() / 2
        weights = with_template(weights, template, cosines[:, channels.index("A4/c")], ramp=(0.2, 0.6))
    torch.testing.assert_close(weights[0], expected["weights_before"], **close)
    found = centred_channels(channels_of, share)
    step_and_temperature = map(number, told["inner_log_step_and_log_temperature"])
    sums = class_sums(found.support, labels, n_way)
    weights, _ = adapted_weights(weights, sums, labels, *step_and_temperature, told["inner_steps"])
    torch.testing.assert_close(weights[0], expected["weights_after"], **close)
    factors = number(*(a + b * math.log(k) for a, b in told["head_log_tau_ridge_lambda (a + b log shot)"]))[None]
    if k == 1:  # the prototypes of these episodes are alone then
        factors[:, 1] = -math.inf
    torch.testing.assert_close(head_logits(found, weights, labels, n_way, factors)[0], expected["logits"], **close)


def test_the_template_counts_where_the_encoder_sees_no_difference():
    weights, template = torch.full((4, 2), 0.5), torch.tensor([0.0, 1.0])
    found = with_template(weights, template, torch.tensor([-0.1, 0.4, 0.525, 0.9]))
    torch.testing.assert_close(found[:, 1], 0.5 + 0.5 * torch.tensor([0.0, 0.0, 0.4, 0.8]))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4))


def task(seed: int, shots: list[int], n_query: int = 4, channels: int = 3, size: int = 6):
    """Random features of unit length and labels: one task."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(shots)).repeat_interleave(torch.tensor(shots))[None]
    features = torch.randn(1, channels, labels.shape[1] + n_query, size, generator=generator, dtype=torch.float64)
    features[:, :, : labels.shape[1]] += 2 * torch.nn.functional.one_hot(labels, size)[:, None]
    features = torch.nn.functional.normalize(features + 0.5, dim=-1)
    support, query = features.split([labels.shape[1], n_query], dim=2)
    return labels, Channels(list(support.unbind(dim=1)), list(query.unbind(dim=1)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(0, 999))
def test_sums_are_those_of_kernels(shots, seed):
    """The mean cosine between classes, the sums of a class and the leave-one-out loss, sample by sample."""
    labels, channels = task(seed, shots)
    n_way, support = len(shots), channels.support[0]
    kernel = (support @ support.transpose(1, 2))[0]
    differ = labels[0][:, None] != labels[0]
    cosines = cosines_of(channels, labels, n_way)
    torch.testing.assert_close(cosines[0, 0], kernel[differ].mean())
    share = centring(cosines, n_way)
    assert ((share >= 0) & (share <= 1)).all()
    moved = centred_channels(channels, share)
    torch.testing.assert_close(moved.support[0].norm(dim=2), torch.ones(1, len(kernel), dtype=torch.float64))
    sums = class_sums(moved.support, labels, n_way)
    weights = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    mixture, mixed = mixed_kernel(moved.support, moved.support, weights)[0], mixed_sums(sums, weights)
    for c in range(n_way):
        of_class = mixture[:, labels[0] == c]
        torch.testing.assert_close(mixed.to_class[0, :, c], of_class.sum(dim=1))
        torch.testing.assert_close(mixed.within[0, c], of_class[labels[0] == c].sum())


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 999))
def test_leave_one_out_loss_is_that_of_every_sample_against_all_others(n_way, k_shot, seed):
    labels, channels = task(seed, [k_shot] * n_way)
    weights = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    mixture = mixed_kernel(channels.support, channels.support, weights)[0]
    mixed = mixed_sums(class_sums(channels.support, labels, n_way), weights)
    losses = []
    for i in range(n_way * k_shot):
        others = [[j for j in range(n_way * k_shot) if j != i and labels[0, j] == c] for c in range(n_way)]
        lengths = torch.stack([mixture[own][:, own].sum().sqrt() for own in others])
        cosines = torch.stack([mixture[i, own].sum() for own in others]) / lengths
        losses.append(torch.nn.functional.cross_entropy(3 * cosines, labels[0, i]))
    torch.testing.assert_close(leave_one_out_loss(mixed, labels, number(3.0))[0], torch.stack(losses).mean())


def test_ridge_regression_is_that_of_weighted_features_with_an_intercept():
    labels, channels = task(0, [3, 2, 4])
    support, query = channels.support[0], channels.query[0]
    members, weights = torch.nn.functional.one_hot(labels, 3).double(), sample_weights(labels, 3, torch.float64)
    x, w = support[0], weights[0][:, None]
    mean, targets = (w * x).mean(dim=0), members[0] - (w * members[0]).mean(dim=0)
    inner = (w * (x - mean)).T @ (x - mean) + 0.3 * torch.eye(6, dtype=torch.float64)
    slope = torch.linalg.solve(inner, (w * (x - mean)).T @ targets)
    found = ridge_regression(support @ support.transpose(1, 2), members, number(0.3)[None, None, None], weights)
    logits = query @ support.transpose(1, 2) @ found.coefficients + found.bias[:, None]
    torch.testing.assert_close(logits[0], (query[0] - mean) @ slope)


def test_leave_one_out_predictions_of_the_regression_and_their_derivative():
    """On a fixed origin, leaving a sample out is fitting to the others."""
    labels, channels = task(4, [3, 2, 4])
    weights = sample_weights(labels, 3, torch.float64)
    inner = doubly_centred(channels.support[0] @ channels.support[0].transpose(1, 2), weights)
    targets = centred_targets(torch.nn.functional.one_hot(labels, 3).double(), weights)

    def predicted(log_ridge):
        ridge = number(log_ridge).exp()[None, None, None]
        return leave_one_out_regression(inverse_of(inner, ridge, weights), targets, ridge, weights)

    found, slope = predicted(-0.7)
    for i in range(9):
        others = [j for j in range(9) if j != i]
        regular = inner[0, others][:, others] + math.exp(-0.7) * torch.diag(1 / weights[0, others])
        torch.testing.assert_close(found[0, i], inner[0, i, others] @ torch.linalg.solve(regular, targets[0, others]))
    torch.testing.assert_close(slope, (predicted(-0.7 + 1e-6)[0] - predicted(-0.7 - 1e-6)[0]) / 2e-6)


def test_steps_on_the_head_are_those_of_gradient_descent_on_its_leave_one_out_loss():
    labels, channels = task(5, [4, 4, 4])
    weights = torch.ones(1, 12, dtype=torch.float64)
    kernel = channels.support[0] @ channels.support[0].transpose(1, 2)
    sums = class_sums(channels.support[:1], labels, 3)
    sums = mixed_sums(sums, torch.ones(1, 1, dtype=torch.float64))
    rates, start = number(-3.0, -3.0, -3.0)[None], number(0.5, 0.2, -0.4)[None]
    targets = centred_targets(torch.nn.functional.one_hot(labels, 3).double(), weights)

    def loss(factors):
        cosines = torch.empty(12, 3, dtype=torch.float64)
        temperature, scale, ridge = factors[0].exp()
        inverse = inverse_of(doubly_centred(kernel, weights), ridge.view(1, 1, 1), weights)
        regression, _ = leave_one_out_regression(inverse, targets, ridge, weights)
        for i in range(12):
            for c in range(3):
                own = [j for j in range(12) if j != i and labels[0, j] == c]
                cosines[i, c] = kernel[0, i, own].sum() / kernel[0, own][:, own].sum().sqrt()
        return torch.nn.functional.cross_entropy(temperature * cosines + scale * regression[0], labels[0])

    found = adapted_factors(start, kernel, sums, labels, rates, 1)
    for place in range(3):
        step = torch.zeros(1, 3, dtype=torch.float64)
        step[0, place] = 1e-6
        slope = (loss(start + step) - loss(start - step)) / 2e-6
        torch.testing.assert_close((start - found)[0, place], math.exp(-3) * slope, rtol=1e-5, atol=1e-9)
    assert loss(adapted_factors(start, kernel, sums, labels, rates, 20)) < loss(found) < loss(start)


def test_a_class_with_many_samples_has_no_advantage():
    """Of two classes with the same centre, queries of that centre are as near to one as to the other."""
    generator = torch.Generator().manual_seed(6)
    share = 0.0
    for _ in range(20):
        centre = torch.nn.functional.normalize(torch.randn(40, generator=generator, dtype=torch.float64), dim=0)
        samples = 3.0 * centre + torch.randn(90, 40, generator=generator, dtype=torch.float64) / 2
        samples = torch.nn.functional.normalize(samples, dim=1)
        support, query = samples[None, :22], samples[None, 22:]
        labels = torch.tensor([[0, 0] + [1] * 20])
        logits = head_logits(
            *(Channels([support], [query]), torch.ones(1, 1, dtype=torch.float64), labels, 2),
            number(2.0, -9.0, 0.0)[None],
        )
        share += float((logits.argmax(dim=2) == 0).double().mean()) / 20
    assert 0.3 < share < 0.7


def test_corrections_are_one_for_equal_shots_and_weights_make_classes_count_alike():
    labels, channels = task(7, [3, 3])
    sums = mixed_sums(class_sums(channels.support[:1], labels, 2), torch.ones(1, 1, dtype=torch.float64))
    found = shot_corrections(sums.within, torch.full((1, 2), 3.0).double(), torch.full((1, 2), 3.0).double())
    assert torch.equal(found, torch.ones(1, 2, dtype=torch.float64))
    unequal = torch.tensor([[0, 1, 1, 1]])
    assert sample_weights(unequal, 2, torch.float64).tolist() == [[2.0, *[pytest.approx(2 / 3)] * 3]]


def test_second_order_gradients_of_the_whole_learner():
    labels, channels = task(1, [2, 3, 1])

    def loss(start, log_step, log_temperature, factors, rates):
        weights = channel_weights(start, start / 3, log_shots(labels, 3).double())
        moved = centred_channels(channels, centring(cosines_of(channels, labels, 3), 3))
        sums = class_sums(moved.support, labels, 3)
        weights, losses = adapted_weights(weights, sums, labels, log_step, log_temperature, 3)
        kernel = mixed_kernel(moved.support, moved.support, weights)
        factors = adapted_factors(factors[None], kernel, mixed_sums(sums, weights), labels, rates[None], 2)
        logits = head_logits(moved, weights, labels, 3, factors)
        return torch.nn.functional.cross_entropy(logits[0], torch.tensor([0, 1, 2, 0])) + losses.sum()

    inputs = [number(0.1, -0.2, 0.3), number(-0.5), number(1.0), number(1.0, 0.5, -0.5), number(-2.0, -1.0, -1.5)]
    assert torch.autograd.gradcheck(loss, [tensor.clone().requires_grad_() for tensor in inputs])


def test_one_sample_per_class_leaves_the_weights_and_has_both_parts_of_the_head():
    labels, channels = task(2, [1, 1, 1])
    weights = number(0.2, 0.3, 0.5)[None]
    sums = class_sums(channels.support, labels, 3)
    found, losses = adapted_weights(weights, sums, labels, number(0.0), number(1.0), 4)
    assert torch.equal(found, weights) and losses.shape == (1, 4)
    kernel, query = (mixed_kernel(rows, channels.support, weights) for rows in (channels.support, channels.query))
    factors = number(2.0, 1.0, -0.5)[None]
    logits = head_logits(channels, weights, labels, 3, factors)
    prototypes = math.exp(2) * query / kernel.diagonal(dim1=1, dim2=2).sqrt()[:, None]
    centre = torch.eye(3, dtype=kernel.dtype) - 1 / 3
    dual = torch.linalg.solve(centre @ kernel @ centre + math.exp(-0.5) * torch.eye(3), centre)
    regression = (query - kernel.mean(dim=2)[:, None]) @ centre @ dual
    torch.testing.assert_close(logits, prototypes + math.exp(1) * regression)


def test_without_a_graph_the_weights_are_the_same():
    labels, channels = task(3, [3, 3])
    weights = number(0.2, 0.3, 0.5)[None]
    arguments = (weights, class_sums(channels.support, labels, 2), labels, number(0.2), number(1.0), 5)
    expected, losses = adapted_weights(*arguments)
    with torch.no_grad():
        found, again = adapted_weights(*arguments)
    assert not found.requires_grad and torch.equal(found, expected) and torch.equal(losses, again)
    assert (losses[0, 1:] < losses[0, :-1]).all(), "each step lowers the loss"

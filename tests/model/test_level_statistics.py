"""Statistics of levels: what whitening is, low rank, and what needs no statistics."""

import pytest
import torch

from modeling_msmaml.model.level_statistics import LevelStatistics, channel_names


def samples(n: int = 60, d: int = 8, groups: int = 6, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    numbers = torch.arange(n) % groups
    means = 5 * torch.randn(groups, d, generator=generator, dtype=torch.float64)
    return means[numbers] + torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing, numbers


def fitted(rank: int | None = None) -> tuple[LevelStatistics, torch.Tensor, torch.Tensor]:
    features, groups = samples()
    statistics = LevelStatistics(8, rank).double()
    statistics.fit(features, groups)
    return statistics, features, groups


def shrunk_covariance(features: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    within = torch.cat([features[groups == g] - features[groups == g].mean(dim=0) for g in groups.unique()])
    covariance = within.T @ within
    return 0.8 * covariance * len(covariance) / covariance.trace() + 0.2 * torch.eye(len(covariance)).double()


@pytest.mark.parametrize(("kind", "power"), [("h", -0.25), ("w", -0.5)])
def test_whitened_channels_have_the_inner_products_of_the_formula(kind, power):
    statistics, features, groups = fitted()
    values, vectors = torch.linalg.eigh(shrunk_covariance(features, groups))
    expected = (features - features.mean(dim=0)) @ (vectors * values**power) @ vectors.T
    expected = torch.nn.functional.normalize(expected, dim=-1)
    (found,) = statistics(features, [kind])
    torch.testing.assert_close(found @ found.T, expected @ expected.T)


def test_plain_channels_are_those_of_the_formula():
    statistics, features, _ = fitted()
    x = features - features.mean(dim=0)
    deviation = features.std(dim=0)
    centred, standardised = statistics(features, ["c", "s"])
    torch.testing.assert_close(centred, torch.nn.functional.normalize(x, dim=-1))
    scaled = x / (deviation + deviation.mean() / 10)
    torch.testing.assert_close(standardised, torch.nn.functional.normalize(scaled, dim=-1))


def test_a_low_rank_is_exact_where_the_other_directions_are_alike_and_near_elsewhere():
    exact, features, _ = fitted()
    low, _, _ = fitted(rank=7)  # one direction is left, whose value is its own mean
    for one, other in zip(exact(features), low(features), strict=True):
        torch.testing.assert_close(one @ one.T, other @ other.T)
    half, _, _ = fitted(rank=4)
    one, other = exact(features, ["w"])[0], half(features, ["w"])[0]
    assert half.directions.shape == (8, 4) and (one @ one.T - other @ other.T).abs().mean() < 0.2


def test_before_fitting_channels_are_the_features_themselves():
    features = samples()[0].float()
    for channel in LevelStatistics(8)(features, ["c", "s", "h", "w"]):
        torch.testing.assert_close(channel, torch.nn.functional.normalize(features, dim=-1))


def test_groups_without_two_samples_are_refused():
    with pytest.raises(ValueError, match="5 samples of 5 groups have no covariance"):
        LevelStatistics(3).fit(torch.randn(5, 3), torch.arange(5))


def test_names_of_channels():
    assert channel_names(["L0", "L1"], "L1") == ["L0/s", "L0/h", "L0/w", "L1/c", "L1/s", "L1/h", "L1/w"]

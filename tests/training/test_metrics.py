"""FewShotAccuracy: means and intervals over episodes."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeling_msmaml import FewShotAccuracy
from modeling_msmaml.training.metrics import mean_and_ci95


def test_accuracy_is_a_mean_over_episodes_not_over_queries():
    result = FewShotAccuracy().compute(
        predictions=[[0, 1], [0, 0, 0, 0], [1, 1]],
        references=[[0, 1], [0, 1, 1, 1], [0, 0]],
        modalities=["audio", "audio", "text"],
    )
    assert result["episodes"] == 3 and result["audio_episodes"] == 2 and result["text_episodes"] == 1
    assert result["accuracy"] == pytest.approx((1 + 0.25 + 0) / 3)
    assert result["audio_accuracy"] == pytest.approx(0.625)
    assert result["audio_accuracy_ci95"] == pytest.approx(1.96 * statistics.stdev([1, 0.25]) / math.sqrt(2))
    assert result["text_accuracy"] == 0.0 and result["text_accuracy_ci95"] == math.inf


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), st.randoms())
def test_order_of_episodes_does_not_matter_to_the_last_bit(values, random):
    shuffled = random.sample(values, len(values))
    assert mean_and_ci95(values) == mean_and_ci95(shuffled)


def test_intervals_are_stratified_by_data_set():
    """One data set always right and one always wrong: the mean is certain."""
    result = FewShotAccuracy().compute(
        predictions=[[0], [0], [0], [0], [0], [1]],
        references=[[0], [0], [1], [1], [1], [1]],
        modalities=["audio"] * 4 + ["text"] * 2,
        data_sets=["easy", "easy", "hard", "hard", "texts", "texts"],
    )
    assert (result["audio_accuracy"], result["audio_accuracy_ci95"]) == (0.5, 0.0)
    assert (result["easy_accuracy"], result["hard_accuracy"], result["texts_episodes"]) == (1.0, 0.0, 2)
    assert result["texts_accuracy_ci95"] == pytest.approx(0.98)
    # Cochran 1977, section 5.4, by hand: the share of texts is 1/3, and only they vary.
    assert result["accuracy"] == 0.5 and result["accuracy_ci95"] == pytest.approx(0.98 / 3)


def test_no_episode_and_torn_episodes_are_refused():
    with pytest.raises(ValueError, match="at least two"):
        mean_and_ci95([])
    with pytest.raises(ValueError, match="'audio' has 1 predictions for 2 labels"):
        FewShotAccuracy().compute(predictions=[[0]], references=[[0, 1]], modalities=["audio"])

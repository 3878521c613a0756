"""Estimates against known values, coverage of their intervals, and refusal of nothing."""

import math

import numpy as np
import pytest

from conformance import stats
from conformance.gate import ProbeError


def test_share_has_wilsons_interval():
    measured = stats.share(45, 50)
    assert (measured.value, measured.n) == (0.9, 50)
    assert measured.low == pytest.approx(0.7864, abs=1e-4)
    assert measured.high == pytest.approx(0.9565, abs=1e-4)


def test_mean_has_students_interval():
    measured = stats.mean([1.0, 2.0, 3.0, 4.0], "s")
    assert measured.value == 2.5
    assert measured.low == pytest.approx(2.5 - 3.1824 * 0.6455, abs=1e-3)
    assert measured.unit == "s"
    assert stats.mean([1.0]).low is None


def test_paired_gain_is_the_mean_of_differences():
    measured = stats.paired_gain([0.9, 0.8, 0.7], [0.8, 0.8, 0.6])
    assert measured.value == pytest.approx(0.0666667)
    assert measured.low < measured.value < measured.high


def test_bootstrap_is_reproducible_and_near_t():
    values = np.random.default_rng(1).normal(0.5, 0.1, 400)
    one, two, t = stats.bootstrap_mean(values), stats.bootstrap_mean(values), stats.mean(values)
    assert one == two
    assert one.low == pytest.approx(t.low, abs=0.002)
    constant = stats.bootstrap_mean([1.0, 1.0])
    assert (constant.low, constant.high) == (1.0, 1.0)
    assert stats.bootstrap_mean([1.0]).low is None


def test_percentile_is_an_observation_with_order_statistics():
    measured = stats.percentile([float(i) for i in range(1, 101)], 0.95)
    assert (measured.value, measured.n, measured.unit) == (95.0, 100, "s")
    assert (measured.low, measured.high) == (90.0, 100.0)
    assert stats.percentile([1.0, 2.0, 3.0], 0.95).high is None
    assert stats.percentile([3.0], 0.5).value == 3.0
    assert math.isinf(stats.percentile([0.1, math.inf], 0.95).value)


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_percentile_intervals_cover(q):
    random, hits = np.random.default_rng(7), 0
    for _ in range(300):
        measured = stats.percentile(random.exponential(1, 200), q)
        hits += measured.low <= -math.log(1 - q) <= measured.high
    assert hits / 300 >= 0.92


def test_calibration_tells_the_calibrated_from_the_sure():
    random = np.random.default_rng(3)
    scores = random.uniform(0, 1, 4000)
    outcomes = random.uniform(0, 1, 4000) < scores
    good = stats.expected_calibration_error(scores, outcomes)
    assert good.value < 0.03
    assert good.low <= good.value <= good.high
    sure = stats.expected_calibration_error(np.full(4000, 0.99), outcomes)
    assert sure.value == pytest.approx(0.49, abs=0.03)


def test_exactly_needs_something_looked_at():
    assert stats.exactly(0, 12, "h").n == 12


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.share(0, 0),
        lambda: stats.share(3, 2),
        lambda: stats.mean([]),
        lambda: stats.mean([1.0, math.nan]),
        lambda: stats.mean([1.0, math.inf]),
        lambda: stats.paired_gain([1.0], [1.0, 2.0]),
        lambda: stats.bootstrap_mean([]),
        lambda: stats.percentile([], 0.95),
        lambda: stats.percentile([1.0, math.nan], 0.95),
        lambda: stats.expected_calibration_error([], []),
        lambda: stats.expected_calibration_error([0.5], [True, False]),
        lambda: stats.expected_calibration_error([1.5], [True]),
        lambda: stats.exactly(0, 0),
    ],
)
def test_nothing_measured_is_an_error(call):
    with pytest.raises(ProbeError):
        call()

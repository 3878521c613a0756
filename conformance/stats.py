"""Estimates with their 95 % intervals. Nothing measured is an error, never a number."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from conformance.gate import Measurement, ProbeError

CONFIDENCE = 0.95
Numbers = Sequence[float] | npt.NDArray[np.float64]


def _array(values: Numbers, what: str, *, infinite: bool = False) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ProbeError(f"{what}: nothing was measured")
    wrong = np.isnan(array) if infinite else ~np.isfinite(array)
    if wrong.any():
        raise ProbeError(f"{what}: {int(wrong.sum())} values are not numbers")
    return array


def share(successes: int, n: int) -> Measurement:
    """A proportion in 0..1 with its Wilson interval; raises `ProbeError` when n is 0."""
    if n <= 0:
        raise ProbeError("share: nothing was measured")
    if not 0 <= successes <= n:
        raise ProbeError(f"share: {successes} of {n}")
    interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Measurement(successes / n, n, float(interval.low), float(interval.high))


def mean(values: Numbers, unit: str = "") -> Measurement:
    """A mean with Student's t interval (none below two values)."""
    array = _array(values, "mean")
    value, n = float(array.mean()), int(array.size)
    if n < 2:
        return Measurement(value, n, unit=unit)
    half = float(stats.sem(array)) * float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return Measurement(value, n, value - half, value + half, unit)


def paired_gain(treated: Numbers, baseline: Numbers, unit: str = "") -> Measurement:
    """The mean of `treated - baseline`, pair by pair, with Student's t interval."""
    first, second = _array(treated, "paired gain"), _array(baseline, "paired gain")
    if first.shape != second.shape:
        raise ProbeError(f"paired gain: {first.size} values against {second.size}")
    return mean(first - second, unit)


def bootstrap_mean(values: Numbers, *, seed: int = 0, resamples: int = 4000) -> Measurement:
    """A mean with a bootstrap percentile interval, for skewed values; reproducible by `seed`."""
    array = _array(values, "bootstrap mean")
    if array.size < 2 or float(array.std()) == 0.0:
        only = float(array.mean())
        return Measurement(only, int(array.size), *((only, only) if array.size > 1 else ()))
    result = stats.bootstrap(
        (array,),
        np.mean,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Measurement(
        float(array.mean()), int(array.size), float(interval.low), float(interval.high)
    )


def percentile(values: Numbers, q: float, unit: str = "s") -> Measurement:
    """The q-th quantile (q in 0..1) with a distribution-free interval from order statistics.

    The value is the smallest observation that at least a share q does not exceed. A request that
    never ended may be infinite. A bound that the sample is too small to give is None.
    """
    ordered = np.sort(_array(values, f"P{q * 100:g}", infinite=True))
    n = int(ordered.size)
    value = float(ordered[min(n, max(1, math.ceil(n * q - 1e-9))) - 1])
    tail = (1 - CONFIDENCE) / 2
    low = int(stats.binom.ppf(tail, n, q))
    high = int(stats.binom.ppf(1 - tail, n, q)) + 1
    return Measurement(
        value,
        n,
        float(ordered[low - 1]) if low >= 1 else None,
        float(ordered[high - 1]) if high <= n else None,
        unit,
    )


def expected_calibration_error(
    probabilities: Numbers, outcomes: Sequence[bool], *, bins: int = 10, seed: int = 0
) -> Measurement:
    """ECE over equal-width bins with a bootstrap percentile interval."""
    predicted = _array(probabilities, "calibration")
    happened = np.asarray(outcomes, dtype=np.float64)
    if predicted.shape != happened.shape:
        raise ProbeError(f"calibration: {predicted.size} scores, {happened.size} outcomes")
    if predicted.min() < 0 or predicted.max() > 1:
        raise ProbeError("calibration: a probability is outside 0..1")
    random, n = np.random.default_rng(seed), int(predicted.size)
    draws = [_ece(predicted[i], happened[i], bins) for i in random.integers(0, n, (1000, n))]
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Measurement(_ece(predicted, happened, bins), n, float(low), float(high))


def _ece(predicted: npt.NDArray[np.float64], happened: npt.NDArray[np.float64], bins: int) -> float:
    which = np.minimum((predicted * bins).astype(int), bins - 1)
    gaps = np.abs(
        np.bincount(which, happened, minlength=bins) - np.bincount(which, predicted, minlength=bins)
    )
    return float(gaps.sum() / predicted.size)


def exactly(value: float, n: int, unit: str = "") -> Measurement:
    """A count or setting read off, not estimated; raises `ProbeError` when n is 0."""
    if n <= 0:
        raise ProbeError("nothing was looked at")
    return Measurement(float(value), n, unit=unit)

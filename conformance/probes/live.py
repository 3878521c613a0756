"""The metrics that the services export, held against what the suite saw of the same requests."""

import re
from collections.abc import Mapping, Sequence

from conformance.gate import Measurement, ProbeError
from conformance.stats import exactly, percentile

Samples = Mapping[str, float]
_LE = re.compile(r'_bucket\{le="([^"]+)"\}$')


def grown(before: Samples, after: Samples, name: str) -> float:
    """How much a counter has grown; a missing one counts as 0."""
    return after.get(name, 0.0) - before.get(name, 0.0)


def window_gap(
    before: Samples, after: Samples, name: str, own: Sequence[float], others: int = 0
) -> Measurement:
    """How far an exported mean is from any that the suite's own observations allow.

    The gauge is the mean of values in 0..1 over a sliding window. What left it is only known
    within bounds, and so are `others`, the observations that were not the suite's. Raises
    `ProbeError` when the gauge is not exported or rests on nothing.
    """
    count = f"{name}_observations"
    if name not in after:
        raise ProbeError(f"{name} is not exported")
    old, new = before.get(count, 0.0), after.get(count, 0.0)
    if not new:
        raise ProbeError(f"{name} rests on no observation after the sample")
    kept = own[max(0, len(own) - int(new)) :]
    old_sum, told, mine = before.get(name, 0.0) * old, after[name] * new, float(sum(kept))
    gone = min(old, max(0.0, old + len(kept) + others - new)) if len(kept) == len(own) else old
    most = mine + old_sum - max(0.0, gone - (old - old_sum)) + others
    least = mine + old_sum - min(gone, old_sum)
    return exactly(round(max(0.0, told - most, least - told) / new, 9), int(new))


def latency_gap(
    before: Samples, after: Samples, name: str, seconds: Sequence[float], q: float = 0.95
) -> Measurement:
    """Seconds between a quantile that callers saw and the histogram's bucket that holds it.

    Infinite when the histogram holds fewer requests than were served. Raises `ProbeError` when
    it is not exported.
    """
    buckets = _buckets(before, after, name)
    if not buckets:
        raise ProbeError(f"{name} is not exported as a histogram")
    total = buckets[-1][1]
    if total < len(seconds):
        return exactly(float("inf"), len(seconds), "s")
    low, high = _holding(buckets, q * total)
    seen = percentile(seconds, q).value
    return exactly(max(0.0, low - seen, seen - high), int(total), "s")


def _buckets(before: Samples, after: Samples, name: str) -> list[tuple[float, float]]:
    """Upper bounds in seconds and how many observations each gained, cumulative."""
    found = ((key, _LE.search(key)) for key in after if key.startswith(f"{name}_bucket"))
    return sorted((float(m.group(1)), grown(before, after, key)) for key, m in found if m)


def _holding(buckets: Sequence[tuple[float, float]], rank: float) -> tuple[float, float]:
    low = 0.0
    for high, count in buckets:
        if count >= rank:
            return low, high
        low = high
    return low, float("inf")

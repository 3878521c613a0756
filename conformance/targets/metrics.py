"""Prometheus' text format as a flat mapping, of one process or of several together."""

from collections.abc import Mapping, Sequence

from prometheus_client.parser import text_string_to_metric_families

Samples = Mapping[str, float]
_ADDED = ("_total", "_count", "_sum", "_bucket", "_observations", "_depth")


def parse(text: str) -> Samples:
    """Samples by `name` or `name{label="value",…}` with labels in name order."""
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = float(sample.value)
    return samples


def together(replicas: Sequence[Samples]) -> Samples:
    """One mapping for several replicas.

    Counts add up; a mean over a window of `<name>_observations` is that of all observations, or
    the replicas' plain mean when there are none; of any other gauge the largest value is told.
    """
    names = dict.fromkeys(name for samples in replicas for name in samples)
    return {name: _one(name, [s for s in replicas if name in s]) for name in names}


def _one(name: str, replicas: Sequence[Samples]) -> float:
    values = [samples[name] for samples in replicas]
    bare = name.partition("{")[0]
    if bare.endswith(_ADDED):
        return sum(values)
    weights = [samples.get(f"{name}_observations") for samples in replicas]
    if None in weights:
        return max(values)
    known = [weight or 0.0 for weight in weights]
    total = sum(known)
    if not total:
        return sum(values) / len(values)
    return sum(v * w for v, w in zip(values, known, strict=True)) / total

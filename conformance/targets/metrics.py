"""Prometheus' text format as a flat mapping."""

from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families


def parse(text: str) -> Mapping[str, float]:
    """Samples by `name` or `name{label="value",…}` with labels in name order."""
    samples: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{k}="{v}"' for k, v in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = float(sample.value)
    return samples

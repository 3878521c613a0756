"""The schedule by which a cluster keeps an index in step with its source, and that source."""

from collections.abc import Iterator
from math import inf

from conformance.gate import ProbeError
from conformance.targets.base import Schedule
from conformance.targets.kube.client import Cluster
from conformance.targets.kube.errors import Object
from conformance.targets.layers import workloads
from conformance.targets.layers.places import place

TENANT = "conformance-scheduled"
_BUCKET = "SOURCE_BUCKET"
_DAY_MINUTES = 24 * 60


def declared(cluster: Cluster) -> Schedule:
    """What the ingestion's CronJob declares for the suite's own tenant; raises `ProbeError`.

    One that is suspended comes round after an infinite time.
    """
    at = place("ingestion")
    for item in workloads.scheduled(cluster, at):
        template = item["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        if source := _source(cluster, at.namespace, template):
            gap = longest_gap(item["spec"]["schedule"]) * 60
            return Schedule(TENANT, source, inf if item["spec"].get("suspend") else gap)
    raise ProbeError(f"{at.namespace}: no CronJob syncs tenant {TENANT}")


def _source(cluster: Cluster, namespace: str, template: Object) -> str:
    """The folder of the suite's tenant in the source, or '' where nobody syncs it."""
    found = [v["value"] for c in template["containers"] for v in c.get("env") or [] if _is(v)]
    listed = TENANT in _listed(cluster, namespace, template)
    return f"{found[0].rstrip('/')}/{TENANT}" if found and listed else ""


def _is(variable: Object) -> bool:
    return bool(variable["name"] == _BUCKET and variable.get("value", "").startswith("s3://"))


def _listed(cluster: Cluster, namespace: str, template: Object) -> list[str]:
    """The lines of every ConfigMap that is mounted: one of them lists the tenants."""
    volumes = template.get("volumes") or []
    names = [v["configMap"]["name"] for v in volumes if "configMap" in v]
    maps = [cluster.find("v1", "ConfigMap", name, namespace) or {} for name in names]
    texts = [text for found in maps for text in (found.get("data") or {}).values()]
    return [line.strip() for text in texts for line in text.splitlines()]


def longest_gap(expression: str) -> int:
    """Minutes between two runs of a cron expression that runs every day, at most; `ProbeError`."""
    fields = expression.split()
    if len(fields) != 5 or fields[2:] != ["*"] * 3:
        raise ProbeError(f"schedule {expression!r}: not one of every day")
    minutes, hours = _values(fields[0], 60, expression), _values(fields[1], 24, expression)
    times = [hour * 60 + minute for hour in hours for minute in minutes]
    following = [*times[1:], times[0] + _DAY_MINUTES]
    return max(after - before for before, after in zip(times, following, strict=True))


def _values(field: str, size: int, expression: str) -> list[int]:
    """The numbers below `size` that a cron field names, in order."""
    try:
        return sorted({v for part in field.split(",") for v in _part(part, size) if v < size})
    except (ValueError, ZeroDivisionError) as error:
        raise ProbeError(f"schedule {expression!r}: {field!r}: {error}") from error


def _part(part: str, size: int) -> Iterator[int]:
    span, _, step = part.partition("/")
    first, _, last = ("0", "", str(size - 1)) if span == "*" else span.partition("-")
    end = int(last or (size - 1 if step else first))
    yield from range(int(first), end + 1, int(step or 1))

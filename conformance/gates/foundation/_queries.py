"""What the triggers of ScaledObjects ask, and whether anything answers."""

from collections.abc import Iterator
from typing import Any

from conformance.gates.foundation._probes import condition
from conformance.probes.cluster import ApiError, Cluster, Object
from conformance.probes.cluster.prometheus import Prometheus

API, KIND = "keda.sh/v1alpha1", "ScaledObject"
EXTERNAL = "/apis/external.metrics.k8s.io/v1beta1"
NO_METRIC = frozenset({"cpu", "memory"})  # the HPA asks metrics-server for these


def answers(cluster: Cluster, item: Object) -> dict[str, str]:
    """Each query of a ScaledObject, and why it has no data ('' when it has); raises `ProbeError`."""
    where = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
    found: dict[str, str] = {}
    for number, trigger in enumerate(item["spec"]["triggers"]):
        name = f"{where} trigger {number} ({trigger['type']})"
        if trigger["type"] not in NO_METRIC:
            found[name] = _external(cluster, item, number) or _series(cluster, trigger)
        else:
            found[name] = condition(item, "Ready")[1]
    return found


def _external(cluster: Cluster, item: Object, number: int) -> str:
    """'' when the external metrics API has a value for the trigger."""
    names = (item.get("status") or {}).get("externalMetricNames") or []
    metric = next((name for name in names if name.startswith(f"s{number}-")), "")
    if not metric:
        return f"KEDA made no metric of it: {condition(item, 'Ready')[1]}"
    meta = item["metadata"]
    params = {"labelSelector": f"scaledobject.keda.sh/name={meta['name']}"}
    try:
        answer = cluster.raw(f"{EXTERNAL}/namespaces/{meta['namespace']}/{metric}", params)
    except ApiError as error:
        return unless_unreachable(error)
    return "" if answer.get("items") else f"{metric} has no value"


def _series(cluster: Cluster, trigger: dict[str, Any]) -> str:
    """'' when a Prometheus trigger's query has a series: KEDA takes none for 0, in silence."""
    if trigger["type"] != "prometheus":
        return ""
    metadata = trigger["metadata"]
    prometheus = Prometheus.at(cluster, metadata["serverAddress"])
    if prometheus is None:
        strict = str(metadata.get("ignoreNullValues", "true")).lower() == "false"
        return "" if strict else "an outside server, and ignoreNullValues is not false: who knows"
    try:
        series = prometheus.query(metadata["query"])
    except ApiError as error:
        return unless_unreachable(error)
    return "" if series else f"no series for {metadata['query']}"


def unavailable(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """The two APIs that autoscalers ask, and what each lacks ('' when it answers)."""
    for name, path in (
        ("metrics.k8s.io/v1beta1", "/apis/metrics.k8s.io/v1beta1/nodes"),
        ("external.metrics.k8s.io/v1beta1", EXTERNAL),
    ):
        try:
            answer = cluster.raw(path)
        except ApiError as error:
            yield name, unless_unreachable(error)
            continue
        empty = "items" in answer and not answer["items"]
        yield name, f"{path} is empty" if empty else ""


def unless_unreachable(error: ApiError) -> str:
    """What the API server says of the server behind it; raises when it did not answer itself."""
    if not error.status or error.status in (401, 403):
        raise error
    return error.message

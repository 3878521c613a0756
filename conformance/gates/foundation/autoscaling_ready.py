"""autoscaling-ready: KEDA scales by a real query, and every ScaledObject's query has data."""

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation import _queries
from conformance.gates.foundation._probes import (
    lasting,
    namespace,
    seconds_until,
    server,
)
from conformance.probes.cluster import FAULT, LABEL, Cluster, Object, planted, unique
from conformance.probes.cluster.prometheus import Prometheus
from conformance.probes.waiting import settled
from conformance.stats import exactly

QUERIES = ("sum(up)", "count(up)")
EMPTY = "sum(rag_conformance_no_such_series)"


def measure(context: Context) -> Observation:
    """The APIs behind autoscaling, a Deployment really scaled from zero, and all queries."""
    cluster, settle = context.target.cluster, float(context.parameter("settle_seconds"))
    # metrics-server has nothing to say of a node from a scrape that failed to the next, 15 s later.
    apis = settled(lambda: dict(_queries.unavailable(cluster)), settle, bad=_any)
    name = unique(cluster, "scaling")
    with planted(cluster, namespace(name), *_scaled(context, name, QUERIES)):
        limit = float(context.parameter("scale_seconds"))
        seconds = seconds_until(lambda: _ready_replicas(cluster, name), limit)
        queries = settled(lambda: _answers(cluster), settle, bad=_any)
    context.evidence.write("scaling.json", {"apis": apis, "queries": queries, "0 to 1 s": seconds})
    wrong = {what: why for what, why in {**apis, **queries}.items() if why}
    metrics = {
        "apis_unavailable": exactly(sum(map(bool, apis.values())), len(apis)),
        "queries_without_data": exactly(sum(map(bool, queries.values())), len(queries)),
        "scaled_from_zero": exactly(seconds is not None, 1),
    }
    if seconds is not None:
        metrics["scale_seconds"] = exactly(seconds, 1, "s")
    return Observation(metrics, [f"{what}: {why}" for what, why in wrong.items()])


def _ready_replicas(cluster: Cluster, name: str) -> int:
    status = cluster.get("apps/v1", "Deployment", name, name).get("status") or {}
    return int(status.get("readyReplicas", 0))


def _any(wrong: dict[str, str]) -> bool:
    return any(wrong.values())


def _answers(cluster: Cluster) -> dict[str, str]:
    """Every query of every ScaledObject, with what is wrong with it."""
    found: dict[str, str] = {}
    for item in cluster.list(_queries.API, _queries.KIND):
        if "deletionTimestamp" not in item["metadata"]:
            found |= _queries.answers(cluster, item)
    return found


def _scaled(context: Context, name: str, queries: tuple[str, ...]) -> tuple[Object, Object]:
    """A Deployment of no replica and a ScaledObject that wants one while a query is above 0."""
    labels = {"app.kubernetes.io/name": name}
    pod = server(context, name)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": lasting(pod)},
        },
    }
    return deployment, _scaled_object(context.target.cluster, name, queries)


def _scaled_object(cluster: Cluster, name: str, queries: tuple[str, ...]) -> Object:
    address = Prometheus(cluster).url
    return {
        "apiVersion": _queries.API,
        "kind": _queries.KIND,
        "metadata": {"name": name, "namespace": name},
        "spec": {
            "scaleTargetRef": {"name": name},
            "pollingInterval": 2,
            "minReplicaCount": 0,
            "maxReplicaCount": 1,
            "triggers": [
                {
                    "type": "prometheus",
                    "metadata": {"serverAddress": address, "query": query, "threshold": "1"},
                }
                for query in queries
            ],
        },
    }


@contextmanager
def _empty_query(context: Context) -> Iterator[None]:
    """A ScaledObject whose query finds no series, which KEDA reports as 0."""
    cluster = context.target.cluster
    name = unique(cluster, "empty")
    deployment, scaled = _scaled(context, name, (EMPTY,))
    scaled["metadata"]["labels"] = {LABEL: FAULT}
    if Prometheus(cluster).query(EMPTY):
        raise ProbeError(f"{EMPTY} has data")
    with planted(cluster, namespace(name), deployment, scaled):
        yield


GATE = Gate(
    id="autoscaling-ready",
    phase=Phase.FOUNDATION,
    title="KEDA scales from zero by a query, and no query is empty",
    promise="KEDA watches your inference queue depth via Prometheus",
    measure=measure,
    faults=(Fault("a ScaledObject's query finds no series", _empty_query),),
)

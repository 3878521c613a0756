"""vectordb-durable: the store's pods are killed while it is written to; what it acknowledged stays."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.data import _store
from conformance.probes.cluster import Cluster, Object, changed
from conformance.probes.cluster.volumes import (
    crash,
    is_ready,
    members,
    replaced,
    settled,
    sizes,
    stateful,
    telling,
    told,
)
from conformance.probes.writes import Writes
from conformance.stats import exactly

NAMESPACE, TENANT = "rag-vectordb", "conformance-scratch"
RESUMED = 10  # writes after which the store counts as written to again


def measure(context: Context) -> Observation:
    """Ready replicas, the smallest volume, and acknowledged documents lost over crashes and deletions."""
    cluster = context.target.cluster
    sets = stateful(cluster, NAMESPACE)
    pods = members(cluster, sets)
    volumes = sizes(cluster, pods)
    writes = Writes(context.target, TENANT, int(context.parameter("writers")))
    try:
        with writes:
            for number, pod in enumerate(pods):
                context.progress(number, len(pods), f"killing {pod['metadata']['name']}")
                _killed(context, pod, writes)
        lost = writes.lost()
    finally:
        with suppress(Exception):  # the measurement's own error, or its value, is what counts
            writes.drop()
    context.evidence.write("volumes.json", volumes)
    context.evidence.write("lost.json", lost)
    return Observation(
        {
            "replicas": exactly(sum(map(is_ready, pods)), len(sets)),
            "volume_gib": exactly(min(volumes.values(), default=0.0), len(volumes)),
            "lost_documents": exactly(len(lost), len(writes.acknowledged)),
            "refused_writes": exactly(len(writes.refused), len(writes.acknowledged)),
        },
        notes=[f"each of {len(pods)} pods crashed and was deleted once, under writes"],
    )


def _killed(context: Context, pod: Object, writes: Writes) -> None:
    """The pod's processes die, then the pod; writes go on before, between and after."""
    cluster, name = context.target.cluster, pod["metadata"]["name"]
    limit = float(context.parameter("recovery_seconds"))
    _written(cluster, writes, limit, f"writes before {name} crashes")
    crash(cluster, pod)
    _written(cluster, writes, limit, f"writes after {name} crashed")
    cluster.delete("v1", "Pod", name, NAMESPACE, now=True)
    cluster.wait(lambda: replaced(cluster, pod), limit, f"a new {name} that serves")
    _written(cluster, writes, limit, f"writes after {name} was deleted")


def _written(cluster: Cluster, writes: Writes, limit: float, what: str) -> None:
    """Wait for more acknowledged writes; none at all is an error of the measurement."""
    wanted = len(writes.acknowledged) + RESUMED
    try:
        cluster.wait(lambda: len(writes.acknowledged) >= wanted, limit, what)
    except ProbeError as error:
        raise ProbeError(f"{error}; last refused: {['none', *writes.refused][-1]}") from error


@contextmanager
def _acknowledged_too_soon(context: Context) -> Iterator[None]:
    with _store.of(context).forgetting(TENANT):
        yield


@contextmanager
def _replica_gone(context: Context) -> Iterator[None]:
    """The last of what keeps the store's pods keeps one less."""
    cluster = context.target.cluster
    last = stateful(cluster, NAMESPACE)[-1]
    name, fewer = last["metadata"]["name"], told(last) - 1
    patch = telling(last, fewer)
    try:
        with changed(cluster, last["apiVersion"], last["kind"], name, patch, NAMESPACE):
            settled(cluster, last)
            cluster.wait(lambda: len(members(cluster, [last])) == fewer, 120, f"{name} smaller")
            yield
    finally:
        settled(cluster, last)


GATE = Gate(
    id="vectordb-durable",
    phase=Phase.DATA,
    title="The vector store loses nothing that it acknowledged",
    promise="replicaCount=3, persistence.size=200Gi",
    measure=measure,
    faults=(
        Fault("writes are acknowledged before they are sure to last", _acknowledged_too_soon),
        Fault("a replica is gone", _replica_gone),
    ),
)

"""pods-killed: every pod of every layer is killed once under load; nothing acknowledged is lost."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

from conformance.corpora.prepare import TENANT
from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, ProbeError
from conformance.gates.foundation._layers import LAYERS
from conformance.gates.intelligence import _callers, _kills
from conformance.gates.intelligence._kills import Cost, Kill
from conformance.probes.asked import Asking
from conformance.probes.audit import Trail
from conformance.probes.cluster import changed, killing
from conformance.probes.cluster.killing import Victim, Workload
from conformance.probes.cluster.workloads import APPS, restart
from conformance.probes.node import Service
from conformance.probes.waiting import settled
from conformance.probes.writes import Writes
from conformance.stats import exactly
from conformance.targets.layers.places import place
from conformance.targets.reconfigured import reconfigured

SCRATCH = "conformance-scratch"  # the tenant that is written to
MODEL = "rag-llm"  # killed last: it may have to wake first
REPLICA = ("rag-vectordb", "vectordb-replica")
UNREACHABLE = "unreachable: "
IN_A_ROW = 5  # questions served after a kill until the platform counts as whole
REST_SECONDS, POLL_SECONDS = 0.3, 0.25
WHOLE_SECONDS = 120.0  # what an earlier gate has changed comes to rest
AUDIT_SECONDS = 90.0  # the index is behind its log, by what a kill of either takes
_CLOCKS = timedelta(minutes=1)


class Source(Protocol):
    """A workload or a service of the node."""

    @property
    def wanted(self) -> int:
        """How many of it there are to be."""

    def victims(self) -> Iterator[Victim]:
        """Those that run."""


def measure(context: Context) -> Observation:
    """What callers, writers and the audit trail have of a platform whose pods are killed one by one."""
    since = datetime.now(UTC) - _CLOCKS
    sources = _sources(context)
    rates = (float(context.parameter("rate")), float(context.parameter("answer_rate")))
    writes = Writes(context.target, SCRATCH, int(context.parameter("writers")), REST_SECONDS)
    try:
        with _callers.asking(context, *rates) as asking, writes:
            planned, kills = _killed(context, asking, sources)
        found, others = _kills.costs(kills, asking.rows)
        context.evidence.write("requests.csv", _kills.requests_csv(found, others))
        context.evidence.write("kills.csv", _kills.kills_csv(found))
        lost = writes.lost()
    finally:
        with suppress(Exception):  # the measurement's own error, or its value, is what counts
            writes.drop()
    context.evidence.write("lost.json", {"lost": lost, "refused": writes.refused})
    acknowledged = len(writes.acknowledged)
    felt, at = context.parameter("felt"), place("gateway")
    metrics = {
        "lost_documents": exactly(len(lost), acknowledged),
        "refused_writes": exactly(len(writes.refused), acknowledged),
        "unaudited_answers": _unaudited(context, asking, since),
        **_kills.metrics(planned, found, others, felt, f"{at.namespace}/{at.account}"),
    }
    notes = _notes(context, found, _kills.spared(found, others, felt)[1])
    return Observation(metrics, notes, [*_kills.plots(found, others)])


def _notes(context: Context, found: Sequence[Cost], worst: str) -> list[str]:
    killed = {cost.kill.name for cost in found}
    services = context.parameter("node_services")
    absent = sorted(set(context.parameter("felt")) - killed)
    return [
        *map(str, found),
        f"the worst of what nobody should miss: {worst}",
        *([f"the node's services: {services}"] if isinstance(services, str) else []),
        *(f"declared as felt, but not killed: {name}" for name in absent),
    ]


def _sources(context: Context) -> Mapping[str, Source]:
    """What is killed, in this order: the layers, the node's services, the model."""
    cluster = context.target.cluster
    layers = killing.workloads(cluster, LAYERS)
    for workload in layers:
        whole = partial(_whole, workload)
        cluster.wait(whole, WHOLE_SECONDS, f"{workload} not whole before the first is killed")
    order: list[Source] = [
        *(workload for workload in layers if workload.namespace != MODEL),
        *_services(context),
        *(workload for workload in layers if workload.namespace == MODEL),
    ]
    return {str(source): source for source in order}


def _whole(workload: Workload) -> bool:
    return len(workload.pods()) >= workload.wanted


def _services(context: Context) -> list[Source]:
    """Services of the node by name, and workloads that serve it as `namespace/name`."""
    declared, cluster = context.parameter("node_services"), context.target.cluster
    if isinstance(declared, str):
        if not declared.startswith(UNREACHABLE):
            raise ProbeError(f"node_services: {declared!r}: a list, or '{UNREACHABLE}<reason>'")
        return []
    if not context.target.outside():
        raise ProbeError(
            "node_services: the suite's door to the gateway goes through the kubelet; "
            "name gateway_url in target.json, or open a port of the node to it"
        )
    return [
        killing.workload(cluster, name) if "/" in name else Service.of(cluster, name)
        for name in declared
    ]


def _killed(
    context: Context, asking: Asking, sources: Mapping[str, Source]
) -> tuple[int, list[Kill]]:
    """How many kills there were to be, and those made: none after one that was not recovered from."""
    planned = {name: max(1, source.wanted) for name, source in sources.items()}
    kills: list[Kill] = []
    for number, (name, source) in enumerate(sources.items()):
        context.progress(number, len(sources), f"killing {name}")
        before = len(kills)
        for victim in _awake(context, name, source):
            kills.append(_kill(context, asking, victim))
            if kills[-1].over is None:
                return sum(planned.values()), kills
        planned[name] = len(kills) - before
    return sum(planned.values()), kills


def _awake(context: Context, name: str, source: Source) -> list[Victim]:
    """All of it, once it serves: an earlier kill was felt, or the questions have yet to wake it."""

    def all_of_it() -> list[Victim]:
        found = [*source.victims()]
        return found if len(found) >= source.wanted else []

    seconds = float(context.parameter("wake_seconds"))
    found: list[Victim] = context.target.cluster.wait(all_of_it, seconds, f"{name} does not serve")
    return found


def _kill(context: Context, asking: Asking, victim: Victim) -> Kill:
    """Kill it and wait, within its bound, until it is back and questions are served again."""
    bounds = context.parameter("recovery_seconds")
    limit = float(bounds.get(victim.name, bounds["default"]))
    kill = Kill(victim.name, victim.what, asking.elapsed)
    victim.kill()
    while kill.over is None and asking.elapsed - kill.at < limit:
        if kill.back is None and victim.back():  # to look takes its time as well
            kill.back = asking.elapsed - kill.at
        if kill.back is not None and asking.well_since(kill.at + kill.back, IN_A_ROW):
            kill.over = asking.elapsed - kill.at
        time.sleep(POLL_SECONDS)
    return kill


def _unaudited(context: Context, asking: Asking, since: datetime) -> Measurement:
    """Answers that the audit trail does not tell of, once and as their callers have them."""
    seen = [row.seen for row in asking.rows if row.seen]

    def missing() -> list[dict[str, object]]:
        trail = Trail(context.target.audit_records(since, settle=False))
        told = ((one, trail.problems_at_last(one, TENANT)) for one in seen)
        return [{"request_id": o.request_id, "path": o.path, "problems": p} for o, p in told if p]

    rows = settled(missing, AUDIT_SECONDS)
    context.evidence.write("unaudited.jsonl", rows)
    return exactly(len(rows), len(seen))


@contextmanager
def _no_way_back(context: Context) -> Iterator[None]:
    """The store's replica is as it was until its pod goes: the next one fits no node."""
    cluster, (namespace, name) = context.target.cluster, REPLICA
    patch = {
        "spec": {
            "updateStrategy": {"type": "OnDelete", "rollingUpdate": None},
            "template": {"spec": {"nodeSelector": {"rag-blueprint.dev/nowhere": "true"}}},
        }
    }
    try:
        with changed(cluster, APPS, "StatefulSet", name, patch, namespace):
            yield
    finally:
        restart(cluster, namespace, name)  # a pod of the other template stays as it is


@contextmanager
def _muted(context: Context) -> Iterator[None]:
    """Retrieval keeps its audit records to itself."""
    with reconfigured(context.target, "retrieval", AUDIT_SINK="file:///tmp/audit"):
        yield


GATE = Gate(
    id="pods-killed",
    phase=Phase.INTELLIGENCE,
    title="Any pod may die under load",
    promise="no acknowledged data lost, errors bounded and counted",
    measure=measure,
    faults=(
        Fault("the pod of the store's replica does not come back", _no_way_back),
        Fault("the audit records go elsewhere", _muted),
    ),
)

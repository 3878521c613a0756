"""monitoring-ready: all that asks to be scraped is, and the six metrics' rules are evaluated."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation import _rules, _scrapes
from conformance.gates.foundation._probes import namespace, server
from conformance.probes.cluster import (
    FAULT,
    LABEL,
    Cluster,
    Object,
    changed,
    planted,
    running,
    unique,
)
from conformance.probes.cluster.prometheus import Prometheus
from conformance.probes.cluster.workloads import restart
from conformance.stats import exactly

POLL_SECONDS = 1.0


def measure(context: Context) -> Observation:
    """The scrapes and rules of the platform's Prometheus, once what is new has had its turn."""
    cluster = context.target.cluster
    prometheus = Prometheus(cluster)
    jobs, seconds = context.parameter("jobs"), float(context.parameter("settle_seconds"))
    down, looked_at = _scraped(cluster, prometheus, jobs, time.monotonic() + seconds)
    groups = _evaluated(prometheus, time.monotonic() + seconds)
    missing = _rules.missing(groups)
    context.evidence.write("targets.json", {"down": down, "looked at": sorted(looked_at)})
    context.evidence.write("rules.json", {"missing": missing, "loaded": groups})
    return Observation(
        {
            "targets_down": exactly(len(down), len(looked_at)),
            "rules_missing": exactly(len(missing), len(list(_rules.expected()))),
        },
        notes=[*(f"{name}: {why}" for name, why in down.items()), *missing],
    )


def _scraped(
    cluster: Cluster, prometheus: Prometheus, jobs: list[str], deadline: float
) -> tuple[dict[str, str], set[str]]:
    """What stayed down until the deadline, and what was looked at.

    What was not there at first, or is gone at the end, is a pod of a rollout: not judged.
    """
    first: set[str] | None = None
    while True:
        asked = _scrapes.asked_for(cluster.list("v1", "Pod"))
        targets = prometheus.targets()
        down = _scrapes.down(asked, jobs, targets)
        looked_at = _scrapes.judged(asked, jobs, targets)
        first = looked_at if first is None else first
        if not down or time.monotonic() > deadline:
            return {name: why for name, why in down.items() if name in first}, looked_at
        time.sleep(POLL_SECONDS)


def _evaluated(prometheus: Prometheus, deadline: float) -> list[dict[str, object]]:
    """The rule groups, once each rule was evaluated or the time is over."""
    while _rules.unknown(groups := prometheus.rule_groups()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return [*groups]


@contextmanager
def _target_down(context: Context) -> Iterator[None]:
    """A pod that asks to be scraped on a port where nobody listens."""
    cluster = context.target.cluster
    name = unique(cluster, "scraped")
    asks = {_scrapes.SCRAPE: "true", _scrapes.PORT: "9"}
    pod = server(context, name, labels={LABEL: FAULT}, annotations=asks)
    with planted(cluster, namespace(name)), planted(cluster, pod) as made:
        running(cluster, made)
        yield


@contextmanager
def _rule_missing(context: Context) -> Iterator[None]:
    with rules_file(context.target.cluster, "missing.yaml", None):
        yield


@contextmanager
def rules_file(cluster: Cluster, file: str, content: str | None) -> Iterator[None]:
    """Inside the block Prometheus runs with that file of rules as given, None for without it."""
    where = Prometheus(cluster)
    rules = _rules_of(cluster.get("apps/v1", "StatefulSet", where.service, where.namespace))
    patch = {"data": {file: content}}
    try:
        with changed(cluster, "v1", "ConfigMap", rules, patch, where.namespace):
            restart(cluster, where.namespace, where.service)
            yield
    finally:
        restart(cluster, where.namespace, where.service)


def _rules_of(workload: Object) -> str:
    """The name of the ConfigMap that it reads its rules from."""
    for volume in workload["spec"]["template"]["spec"]["volumes"]:
        if volume["name"] == "rules":
            return str(volume["configMap"]["name"])
    raise ProbeError(f"{workload['metadata']['name']} has no volume `rules`")


GATE = Gate(
    id="monitoring-ready",
    phase=Phase.FOUNDATION,
    title="Prometheus scrapes what asks for it and evaluates the six metrics' rules",
    promise="Prometheus + Grafana monitoring stack",
    measure=measure,
    faults=(
        Fault("a scrape target is down", _target_down),
        Fault("the rules that tell a metric is missing are gone", _rule_missing),
    ),
)

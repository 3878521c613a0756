"""dashboards: every panel and every alert looks at data while the platform is used."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.data import _traffic
from conformance.gates.foundation.monitoring_ready import rules_file
from conformance.gates.intelligence import _boards
from conformance.probes.cluster import FAULT, LABEL, planted, unique
from conformance.probes.cluster.prometheus import Prometheus
from conformance.probes.waiting import settled
from conformance.stats import exactly

ABSENT = "rag_conformance_no_such_series"


def measure(context: Context) -> Observation:
    """Panels and alerts whose expressions stay without data while questions are asked."""
    cluster = context.target.cluster
    prometheus, panels = Prometheus(cluster), _boards.panels(cluster)
    seconds, rate = float(context.parameter("settle_seconds")), float(context.parameter("rate"))
    with (
        _traffic.retrievals(context, per_second=rate, clients=int(context.parameter("clients"))),
        _traffic.answers(context, per_second=1),
    ):
        empty = settled(lambda: _boards.without_data(prometheus, panels), seconds)
        blind, alerts = settled(lambda: _boards.blind_alerts(prometheus), seconds, bad=_any_blind)
    context.evidence.write("dashboards.json", {"panels": panels, "empty": empty, "blind": blind})
    return Observation(
        {
            "landing_panels": exactly(_boards.landing(panels, [*empty]), len(panels)),
            "panels_without_data": exactly(len(empty), len(panels)),
            "alerts_without_data": exactly(len(blind), alerts),
        },
        notes=[f"{what}: {why}" for what, why in {**empty, **blind}.items()],
    )


def _any_blind(seen: tuple[dict[str, str], int]) -> bool:
    return bool(seen[0])


@contextmanager
def _empty_panel(context: Context) -> Iterator[None]:
    """A dashboard with a panel that asks for a series which nobody exports."""
    cluster = context.target.cluster
    if Prometheus(cluster).query(ABSENT):
        raise ProbeError(f"{ABSENT} has data")
    board = {"title": "probe", "panels": [{"title": "empty", "targets": [{"expr": ABSENT}]}]}
    item = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": unique(cluster, "dashboard"),
            "namespace": Prometheus(cluster).namespace,
            "labels": {_boards.LABEL: "1", LABEL: FAULT},
        },
        "data": {"probe.json": json.dumps(board)},
    }
    with planted(cluster, item):
        yield


@contextmanager
def _blind_alert(context: Context) -> Iterator[None]:
    rule = {"alert": "ConformanceBlind", "expr": f"{ABSENT} > 0"}
    rules = {"groups": [{"name": "conformance", "rules": [rule]}]}
    with rules_file(context.target.cluster, "conformance.yaml", json.dumps(rules)):
        yield


GATE = Gate(
    id="dashboards",
    phase=Phase.INTELLIGENCE,
    title="Every panel and alert has data, the six metrics first",
    promise="Build a dedicated Grafana dashboard with these six metrics on the landing page",
    measure=measure,
    faults=(
        Fault("a panel asks for a series that nobody exports", _empty_panel),
        Fault("an alert looks at a series that nobody exports", _blind_alert),
    ),
)

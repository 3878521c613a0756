"""dashboards: a panel or an alert without data is found, and no dashboard at all is an error."""

import json

import pytest

from conformance.gate import ProbeError
from conformance.gates.intelligence import _boards, dashboards
from conformance.probes.cluster.prometheus import Prometheus
from conformance.static.monitoring import PROMISES
from conformance.tests._live_cluster import LiveContext
from conformance.tests._memory_cluster import MemoryCluster, named, values

API = "monitoring/prometheus:9090/api/v1/"


def board(*expressions, name="rag", key="rag.json", text=None):
    panels = [{"title": e, "targets": [{"expr": e}]} for e in expressions]
    data = {key: text or json.dumps({"panels": panels})}
    return named("ConfigMap", name, "monitoring", labels={_boards.LABEL: "1"}, data=data)


def alerting(*queries):
    rules = [{"type": "alerting", "name": "A", "query": q} for q in queries]
    rules.append({"type": "recording", "name": "r", "query": "no_such"})
    return {"status": "success", "data": {"groups": [{"rules": rules}]}}


def result(kind, data):
    return {"status": "success", "data": {"resultType": kind, "result": data}}


class Monitored(MemoryCluster):
    """A Prometheus that has a value for all but `no_such…`, NaN for `nan…`."""

    def __init__(self, *items, alerts=("up == 0",)):
        super().__init__(*items)
        self.answers[API + "query"] = self._query
        self.answers[API + "rules"] = lambda params: alerting(*self.alerts)
        self.answers[API + "parse_query"] = self._parse
        self.alerts = [*alerts]

    def _query(self, params):
        query = params["query"]
        if "no_such" in query:
            return result("vector", [])
        return result("vector", [{"metric": {}, "value": [0, "NaN" if "nan" in query else "1"]}])

    def _parse(self, params):
        name = params["query"].split()[0]
        selector = {"type": "vectorSelector", "name": name, "matchers": []}
        lhs = {"type": "call", "args": [selector]}
        rhs = {"type": "numberLiteral", "val": "0"}
        return {"status": "success", "data": {"type": "binaryExpr", "lhs": lhs, "rhs": rhs}}


def measured(cluster):
    return dashboards.measure(context(cluster))


def context(cluster):
    return LiveContext(cluster, settle_seconds=0, rate=50, clients=1)


def test_a_dashboard_with_data_is_green():
    seen = measured(Monitored(board(*PROMISES, "up")))
    assert values(seen) == {
        "landing_panels": 6,
        "panels_without_data": 0,
        "alerts_without_data": 0,
    }
    assert seen.metrics["panels_without_data"].n == 7
    assert seen.metrics["alerts_without_data"].n == 1


@pytest.mark.parametrize("empty", ["no_such", "nan_ratio"])
def test_a_panel_without_a_number_has_no_data(empty):
    seen = measured(Monitored(board(*PROMISES, empty)))
    assert values(seen)["panels_without_data"] == 1
    assert empty in seen.notes[0]


def test_metrics_in_another_order_do_not_head_the_dashboard():
    seen = measured(Monitored(board("up", *PROMISES)))
    assert values(seen)["landing_panels"] == 0


def test_an_alert_on_a_series_that_nobody_has_is_blind():
    seen = measured(Monitored(board(*PROMISES), alerts=["up == 0", "no_such > 1"]))
    assert values(seen)["alerts_without_data"] == 1
    assert seen.metrics["alerts_without_data"].n == 2


def test_rows_and_variables_are_seen_through():
    text = json.dumps(
        {
            "panels": [
                {
                    "type": "row",
                    "panels": [
                        {"targets": [{"expr": 'rate(x{t=~"$tenant"}[$__rate_interval])'}]},
                        {"type": "text"},
                    ],
                }
            ]
        }
    )
    found = _boards.panels(MemoryCluster(board(text=text)))
    assert [p.expressions for p in found] == [('rate(x{t=~".*"}[5m])',)]


@pytest.mark.parametrize("text", ["no json", '{"title": "no panels"}', '{"panels": [1]}'])
def test_what_is_no_dashboard_is_an_error(text):
    with pytest.raises(ProbeError, match="not a dashboard"):
        _boards.panels(MemoryCluster(board(text=text)))


def test_no_dashboard_is_an_error():
    with pytest.raises(ProbeError, match="no panel"):
        _boards.panels(MemoryCluster())


def test_selectors_are_read_from_the_syntax_tree():
    cluster = Monitored()
    matchers = [
        {"name": "__name__", "type": "=", "value": "up"},
        {"name": "job", "type": "=~", "value": 'a"b'},
    ]
    tree = {"args": [{"type": "matrixSelector", "name": "up", "matchers": matchers}]}
    cluster.answers[API + "parse_query"] = {"status": "success", "data": tree}
    assert Prometheus(cluster).selectors("x") == ['{__name__="up",job=~"a\\"b"}']


def test_a_scalar_is_data():
    cluster = Monitored()
    cluster.answers[API + "query"] = result("scalar", [0, "3"])
    assert _boards.has_data(Prometheus(cluster), "3")


def test_the_empty_panel_turns_it_red_and_goes():
    cluster = Monitored(board(*PROMISES))
    with dashboards.GATE.faults[0].plant(context(cluster)):
        cluster.answers[API + "query"] = lambda params: (
            result("vector", [])
            if dashboards.ABSENT in params["query"]
            else Monitored._query(cluster, params)
        )
        assert values(measured(cluster))["panels_without_data"] == 1
    assert cluster.planted == []
    assert values(measured(cluster))["panels_without_data"] == 0


def test_a_fault_whose_query_has_data_is_refused():
    cluster = Monitored(board(*PROMISES))
    cluster.answers[API + "query"] = result("vector", [{"value": [0, "1"]}])
    with (
        pytest.raises(ProbeError, match="has data"),
        dashboards.GATE.faults[0].plant(context(cluster)),
    ):
        pass

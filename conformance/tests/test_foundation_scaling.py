"""autoscaling-ready: a query without data is one, though KEDA takes it for 0."""

import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation import _queries, autoscaling_ready
from conformance.probes import waiting
from conformance.probes.cluster import ApiError
from conformance.probes.cluster.prometheus import Prometheus
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values

NODES = "/apis/metrics.k8s.io/v1beta1/nodes"
QUERY = "monitoring/prometheus:9090/api/v1/query"
SERVER = "http://prometheus.monitoring.svc:9090"
VALUE = {"items": [{"value": "1"}]}


def vector(*series):
    return {"status": "success", "data": {"resultType": "vector", "result": list(series)}}


class Keda(MemoryCluster):
    """Makes a metric of each trigger, and a replica of a ScaledObject with data."""

    def __init__(self, *items, scales=True):
        super().__init__(*items)
        self.scales = scales
        self.answers[NODES] = VALUE
        self.answers[_queries.EXTERNAL] = {"kind": "APIResourceList"}
        self.answers[QUERY] = lambda params: vector(*(() if "no_such" in params["query"] else (1,)))
        self.on_create = self._adopt

    def _adopt(self, item):
        if item["kind"] == "Deployment":
            return {**item, "status": {"readyReplicas": int(self.scales)}}
        if item["kind"] != "ScaledObject":
            return None
        names = [f"s{i}-prometheus" for i, _ in enumerate(item["spec"]["triggers"])]
        for name in names:
            path = f"{_queries.EXTERNAL}/namespaces/{item['metadata']['namespace']}/{name}"
            self.answers[path] = VALUE
        return {**item, "status": {"externalMetricNames": names}}


def scaled(*triggers, names=(), ready="True"):
    return named(
        "ScaledObject",
        "so",
        "rag-llm",
        _queries.API,
        spec={"triggers": list(triggers)},
        status={
            "externalMetricNames": list(names),
            "conditions": [{"type": "Ready", "status": ready, "message": "broken"}],
        },
    )


def trigger(query="up", server=SERVER, **metadata):
    told = {"query": query, "serverAddress": server, **metadata}
    return {"type": "prometheus", "metadata": told}


def measured(cluster):
    return autoscaling_ready.measure(Context(cluster, scale_seconds=0, settle_seconds=0))


def test_a_platform_that_scales_is_green_and_nothing_is_left():
    cluster = Keda()
    seen = values(measured(cluster))
    assert seen.pop("scale_seconds") >= 0
    assert seen == {"apis_unavailable": 0, "queries_without_data": 0, "scaled_from_zero": 1}
    assert cluster.planted == []


def test_a_deployment_that_stays_at_zero_is_a_value():
    seen = values(measured(Keda(scales=False)))
    assert seen["scaled_from_zero"] == 0
    assert "scale_seconds" not in seen


@pytest.mark.parametrize("path", [NODES, _queries.EXTERNAL])
def test_an_api_that_does_not_answer_is_unavailable(path):
    cluster = Keda()
    cluster.answers[path] = ApiError(path, 503, "no endpoints")
    assert values(measured(cluster))["apis_unavailable"] == 1


def test_an_api_without_a_node_is_unavailable():
    cluster = Keda()
    cluster.answers[NODES] = {"items": []}
    assert values(measured(cluster))["apis_unavailable"] == 1


def test_what_is_wrong_between_two_scrapes_is_asked_again(monkeypatch):
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0)
    cluster, told = Keda(), iter([{"items": []}])
    cluster.answers[NODES] = lambda _: next(told, VALUE)
    seen = autoscaling_ready.measure(Context(cluster, scale_seconds=0, settle_seconds=60))
    assert values(seen)["apis_unavailable"] == 0
    assert next(told, None) is None


def test_no_answer_at_all_is_an_error():
    cluster = Keda()
    cluster.answers[NODES] = ApiError(NODES, 0, "refused")
    with pytest.raises(ProbeError):
        measured(cluster)


def asked(item, **answers):
    cluster = Keda()
    for metric, answer in answers.items():
        name = metric.replace("_", "-")
        cluster.answers[f"{_queries.EXTERNAL}/namespaces/rag-llm/{name}"] = answer
    return next(iter(_queries.answers(cluster, item).values()))


@pytest.mark.parametrize(
    ("item", "answers", "told"),
    [
        (scaled(trigger(), names=["s0-prometheus"]), {"s0_prometheus": VALUE}, ""),
        (
            scaled(trigger("no_such"), names=["s0-prometheus"]),
            {"s0_prometheus": VALUE},
            "no series",
        ),
        (scaled(trigger(), names=["s0-prometheus"]), {"s0_prometheus": {"items": []}}, "no value"),
        (
            scaled(trigger(), names=["s0-prometheus"]),
            {"s0_prometheus": ApiError("x", 500, "down")},
            "down",
        ),
        (scaled(trigger(), ready="False"), {}, "broken"),
        (
            scaled(trigger(server="https://else.example"), names=["s0-prometheus"]),
            {"s0_prometheus": VALUE},
            "outside",
        ),
        (
            scaled(
                trigger(server="https://else.example", ignoreNullValues="false"),
                names=["s0-prometheus"],
            ),
            {"s0_prometheus": VALUE},
            "",
        ),
        (scaled({"type": "cron", "metadata": {}}, names=["s0-cron"]), {"s0_cron": VALUE}, ""),
        (scaled({"type": "cpu", "metadata": {}}), {}, ""),
        (scaled({"type": "cpu", "metadata": {}}, ready="False"), {}, "broken"),
    ],
)
def test_what_a_trigger_is_told(item, answers, told):
    seen = asked(item, **answers)
    assert told in seen if told else seen == ""


def test_every_scaled_object_of_the_cluster_is_asked():
    seen = measured(Keda(scaled(trigger("no_such"))))
    assert values(seen)["queries_without_data"] == 1
    assert seen.metrics["queries_without_data"].n == 3


def test_a_scaled_object_that_is_being_deleted_is_not_asked():
    leaving = scaled(trigger("no_such"))
    leaving["metadata"]["deletionTimestamp"] = "x"
    assert values(measured(Keda(leaving)))["queries_without_data"] == 0


@pytest.mark.parametrize("fault", autoscaling_ready.GATE.faults, ids=lambda f: f.description)
def test_the_fault_turns_it_red_and_is_taken_back(fault):
    cluster = Keda()
    with fault.plant(Context(cluster)):
        assert values(measured(cluster))["queries_without_data"] == 1
    assert values(measured(cluster))["queries_without_data"] == 0
    assert cluster.planted == []


def test_a_fault_whose_query_has_data_is_refused():
    cluster = Keda()
    cluster.answers[QUERY] = vector(1)
    with (
        pytest.raises(ProbeError, match="has data"),
        autoscaling_ready.GATE.faults[0].plant(Context(cluster)),
    ):
        pass


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://prometheus.monitoring:9090", "monitoring/prometheus:9090"),
        ("http://p.ns.svc.cluster.local:80/", "ns/p:80"),
        ("https://prometheus.example.org", None),
    ],
)
def test_a_service_is_known_by_its_url(url, path):
    found = Prometheus.at(MemoryCluster(), url)
    assert path == (found and f"{found.namespace}/{found.service}:{found.port}")


@pytest.mark.parametrize("answer", ["<html>", {"status": "error", "error": "parse"}])
def test_an_answer_that_is_no_result_is_an_error(answer):
    cluster = MemoryCluster()
    cluster.answers[QUERY] = answer
    with pytest.raises(ProbeError, match="api/v1/query"):
        Prometheus(cluster).query("up")


def test_a_scalar_is_data():
    cluster = MemoryCluster()
    data = {"resultType": "scalar", "result": [1, "0"]}
    cluster.answers[QUERY] = {"status": "success", "data": data}
    assert Prometheus(cluster).query("1")

"""cost-report: every hour is somebody's, priced by a file that is validated, or it is told."""

from datetime import UTC, datetime, timedelta

import pytest

from conformance.gate import ProbeError
from conformance.gates.intelligence import _costs, cost_report
from conformance.probes import cost
from conformance.probes.cost import Prices
from conformance.tests._elastic import OFFICE, QUEUE, Elastic
from conformance.tests._live_cluster import LiveContext
from conformance.tests._memory_cluster import named, values

QUERY = "monitoring/prometheus:9090/api/v1/query"
PRICES = Prices("XXX", vcpu_hour=1, memory_gib_hour=0.5, gpu_hour=30, volume_gib_month=730)
HOURS = {
    "days": ["mon", "tue", "wed", "thu", "fri"],
    "from": "08:00",
    "to": "18:00",
    "timezone": "Europe/Berlin",
}
LLM = ("rag-llm", "llm")


def spec(cpu="1", memory="0", **more):
    resources = {"requests": {"cpu": cpu, "memory": memory, **more}}
    return {"containers": [{"name": "c", "resources": resources}]}


def deployment(namespace, app, pod_spec):
    template = {"metadata": {"labels": {_costs.APP: app}}, "spec": pod_spec}
    return named("Deployment", app, namespace, "apps/v1", spec={"template": template})


class Billed(Elastic):
    """`hours` is what Prometheus says of replica-hours, by namespace and app."""

    def __init__(self, hours, *items, minutes=60, **options):
        triggers = [QUEUE, {"type": "cron", "metadata": OFFICE}]
        options = {"triggers": triggers, **options}
        super().__init__(*cost_report.MODEL, lambda spec: 0, **options)
        for item in items:
            self.put(item)
        self.hours, self.minutes = hours, minutes
        self.answers[QUERY] = self._query

    def _query(self, params):
        found = self.hours.items()
        if "by (namespace, app)" not in params["query"]:
            found = [(("", ""), self.minutes)] if self.minutes else []
        series = [
            {"metric": {"namespace": n, "app": a} if n else {}, "value": [0, str(v)]}
            for (n, a), v in found
        ]
        return {"status": "success", "data": {"resultType": "vector", "result": series}}


def record(tenant="demo", path="/v1/retrieve", **more):
    now = datetime.now(UTC).isoformat()
    return {"event": "completion", "tenant": tenant, "path": path, "time": now, **more}


def context(cluster, monkeypatch, records=None):
    made = LiveContext(cluster, window_minutes=60, office_hours=HOURS)
    made.target.environment, made.since = "lab", []
    made.target.audit_records = lambda since: (
        made.since.append(since) or ([record()] if records is None else records)
    )
    monkeypatch.setattr(cost_report, "OWN_QUESTIONS", 1)
    return made


def test_a_platform_whose_cost_is_known_is_green(monkeypatch):
    cluster = Billed({LLM: 2.0, ("monitoring", "prometheus"): 1.0}, deployment(*LLM, spec()))
    made = context(cluster, monkeypatch)
    seen = cost_report.measure(made)
    told = values(seen)
    assert datetime.now(UTC) - made.since[0] >= timedelta(minutes=60)  # as long as is billed
    assert told["unattributed_share"] == 0
    assert told["off_hours_saving_share"] == pytest.approx(1 - 50 / 168, abs=0.001)
    assert told["replica_hours"] == 3
    assert seen.metrics["unattributed_share"].n == 60
    assert "demo" in seen.notes[1]


def test_hours_of_an_unknown_namespace_or_a_nameless_pod_are_nobodys(monkeypatch):
    hours = {LLM: 1.0, ("elsewhere", "x"): 1.0, ("rag-llm", ""): 2.0}
    cluster = Billed(hours, deployment(*LLM, spec()))
    told = values(cost_report.measure(context(cluster, monkeypatch)))
    assert told["unattributed_share"] == pytest.approx(0.75)


def test_a_model_that_never_sleeps_saves_nothing(monkeypatch):
    cluster = Billed({LLM: 1.0}, deployment(*LLM, spec()))
    made = context(cluster, monkeypatch)
    with cost_report.GATE.faults[0].plant(made):
        assert values(cost_report.measure(made))["off_hours_saving_share"] == 0
    assert values(cost_report.measure(made))["off_hours_saving_share"] > 0.4


def test_a_live_pod_is_priced_by_what_it_asks_for_with_its_sidecar():
    sidecar = {"name": "p", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}}
    once = {"name": "i", "resources": {"requests": {"cpu": "8"}}}
    live = {**spec(memory="2Gi"), "initContainers": [sidecar, once]}
    pod = named("Pod", "llm-0", "rag-llm", labels={_costs.APP: "llm"}, spec=live)
    cluster = Billed({}, deployment(*LLM, spec("4")), pod)
    assert dict(_costs.unit_costs(cluster, PRICES)) == {LLM: 1 + 0.5 + 2 * 0.5}


def test_limits_stand_for_requests_and_gpus_cost():
    limited = {"containers": [{"resources": {"limits": {"cpu": "2", cost.GPU: "4"}}}]}
    assert PRICES.replica_hour(limited) == 2 + 4 * 30
    assert PRICES.volume_hour(3) == 3


def test_a_job_and_a_volume_are_somebodys(monkeypatch):
    template = {"metadata": {"labels": {_costs.APP: "ingestion"}}, "spec": spec("2")}
    job = {"jobTemplate": {"spec": {"template": template}}}
    cron = named("CronJob", "sync", "rag-ingestion", "batch/v1", spec=job)
    claim = named(
        "PersistentVolumeClaim", "d", "rag-vectordb", status={"capacity": {"storage": "5Gi"}}
    )
    cluster = Billed({("rag-ingestion", "ingestion"): 1.0}, cron, claim)
    made = _costs.bill(cluster, PRICES, 60)
    assert dict(made.costs) == {"rag-ingestion": 2, "rag-vectordb": 5}
    assert made.unattributed == 0


def test_the_models_cost_is_shared_by_answers():
    made = _costs.Bill(60, costs={"rag-llm": 8.0, "platform": 2.0})
    records = [
        record("a", "/v1/answer"),
        record("a"),
        record("b"),
        record("b"),
        {"event": "intent", "tenant": "c"},
    ]
    assert _costs.per_thousand(made, records, "rag-llm") == {"a": 4500, "b": 500}
    with pytest.raises(ProbeError, match="no question"):
        _costs.per_thousand(made, [], "rag-llm")


@pytest.mark.parametrize(
    ("hours", "minutes", "told"),
    [
        ({}, 60, "seen no pod"),
        ({LLM: 1.0}, 0, "seen no pod"),
        ({LLM: 1.0}, 60, "asks for anything"),
    ],
)
def test_nothing_to_price_is_an_error(hours, minutes, told):
    with pytest.raises(ProbeError, match=told):
        _costs.bill(Billed(hours, minutes=minutes), PRICES, 60)


def test_a_record_without_a_time_is_an_error(monkeypatch):
    cluster = Billed({LLM: 1.0}, deployment(*LLM, spec()))
    with pytest.raises(ProbeError, match="readable time"):
        cost_report.measure(context(cluster, monkeypatch, [{"event": "completion"}]))


def test_questions_before_the_window_are_not_counted(monkeypatch):
    cluster = Billed({LLM: 1.0}, deployment(*LLM, spec()))
    old = record("old") | {"time": "2020-01-01T00:00:00+00:00"}
    seen = cost_report.measure(context(cluster, monkeypatch, [old, record("new")]))
    assert not any("old" in note for note in seen.notes)


@pytest.mark.parametrize("environment", ["lab"])
def test_the_price_files_of_the_environments_are_valid(environment):
    assert cost.prices(environment).vcpu_hour > 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("currency: EUR", "is a required property"),
        ("currency: [", "expected"),
        (
            "{currency: EUR, vcpu_hour: 0, memory_gib_hour: 1, gpu_hour: 1, volume_gib_month: 1}",
            "vcpu_hour",
        ),
    ],
)
def test_a_price_file_that_is_wrong_is_an_error_with_its_place(tmp_path, text, told):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "prices.yaml").write_text(text)
    with pytest.raises(ProbeError, match=told):
        cost.prices("x", tmp_path)
    with pytest.raises(ProbeError, match="say there what is paid"):
        cost.prices("y", tmp_path)

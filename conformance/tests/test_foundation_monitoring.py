"""monitoring-ready: what must be scraped, and which rules must be there and evaluate."""

import pytest
import yaml

from conformance.gate import ProbeError
from conformance.gates.foundation import _rules, _scrapes, monitoring_ready
from conformance.static.environment import ROOT
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values

TARGETS = "monitoring/prometheus:9090/api/v1/targets"
RULES = "monitoring/prometheus:9090/api/v1/rules"
FOLDER = ROOT / "platform" / "observability" / "base" / "rules"


def loaded(files=("recording", "alerts", "missing", "platform"), **health):
    """The platform's own rules as Prometheus would report them."""
    groups = []
    for file in files:
        for group in yaml.safe_load((FOLDER / f"{file}.yaml").read_text())["groups"]:
            groups.append(
                {"name": group["name"], "rules": [reported(r, health) for r in group["rules"]]}
            )
    return groups


def reported(rule, health):
    name = rule.get("alert") or rule["record"]
    return {
        "name": name,
        "query": rule["expr"],
        "labels": rule.get("labels", {}),
        "type": "alerting" if "alert" in rule else "recording",
        "health": health.get(name, "ok"),
        "lastError": "",
    }


def test_the_platforms_rules_are_all_that_is_expected():
    assert _rules.missing(loaded()) == []
    assert len(list(_rules.expected())) == 14


@pytest.mark.parametrize(("without", "n"), [("recording", 2), ("alerts", 6), ("missing", 6)])
def test_a_file_that_is_not_loaded_is_missed_rule_by_rule(without, n):
    files = {"recording", "alerts", "missing", "platform"} - {without}
    assert len(_rules.missing(loaded(sorted(files)))) == n


def test_no_rule_at_all_is_everything_missing():
    assert len(_rules.missing([])) == 14


@pytest.mark.parametrize("state", ["err", "unknown"])
def test_a_rule_that_does_not_evaluate_is_missing(state):
    assert len(_rules.missing(loaded(RagIndexStale=state))) == 2  # not there, and broken
    assert _rules.unknown(loaded(RagIndexStale=state)) is (state == "unknown")


def test_any_other_rule_that_fails_counts_too():
    assert _rules.missing(loaded(TargetDown="err")) == ["TargetDown: err"]


@pytest.mark.parametrize("query", ["rag_index_staleness_hours >= 3", "rag_index_staleness_hours"])
def test_an_alert_at_another_number_is_not_the_promised_one(query):
    groups = loaded()
    for group in groups:
        for rule in group["rules"]:
            if rule["name"] == "RagIndexStale":
                rule["query"] = query
    assert _rules.missing(groups) == ["alert on rag_index_staleness_hours at 2"]


def pod(name, ip="10.0.0.1", port="9090", phase="Running", **meta):
    asks = {_scrapes.SCRAPE: "true", **({_scrapes.PORT: port} if port else {})}
    item = named("Pod", name, "ns", annotations=asks, status={"phase": phase, "podIP": ip})
    item["metadata"] |= meta
    return item


def target(instance="10.0.0.1:9090", health="up", job="pods"):
    return {"labels": {"job": job, "instance": instance}, "health": health, "lastError": ""}


SELF = target("localhost:9090", job="prometheus")


@pytest.mark.parametrize(
    ("pods", "targets", "down"),
    [
        ([pod("a")], [target(), SELF], []),
        ([pod("a")], [target(health="down"), SELF], ["ns/a"]),
        ([pod("a"), pod("b", "10.0.0.2")], [target(), SELF], ["ns/b"]),
        ([pod("a", port="")], [target("10.0.0.1:1"), target("10.0.0.1:2"), SELF], []),
        ([pod("a", port="1")], [target("10.0.0.1:2"), SELF], ["ns/a"]),
        ([], [target(health="down"), SELF], ["pods 10.0.0.1:9090"]),
        ([], [SELF], ["job pods"]),
        ([], [], ["job prometheus", "job pods"]),
        ([pod("a", phase="Pending"), pod("b", deletionTimestamp="x")], [target("x:1"), SELF], []),
    ],
)
def test_what_is_down(pods, targets, down):
    asked = _scrapes.asked_for(pods)
    assert list(_scrapes.down(asked, ["prometheus", "pods"], targets)) == down


def test_a_pod_that_does_not_ask_is_not_expected():
    other = pod("b")
    other["metadata"]["annotations"] = {_scrapes.SCRAPE: "false"}
    assert _scrapes.asked_for([other, named("Pod", "c", "ns")]) == {}


@pytest.fixture
def platform(monkeypatch):
    monkeypatch.setattr(monitoring_ready, "POLL_SECONDS", 0)
    cluster = MemoryCluster(pod("a"))
    serve(cluster, [target(), SELF], loaded())
    return cluster


def serve(cluster, targets, groups):
    cluster.answers[TARGETS] = {"status": "success", "data": {"activeTargets": targets}}
    cluster.answers[RULES] = {"status": "success", "data": {"groups": groups}}


def measured(cluster, settle=0.0):
    return monitoring_ready.measure(
        Context(cluster, jobs=["prometheus", "pods"], settle_seconds=settle)
    )


def test_all_up_and_loaded_is_green(platform):
    seen = measured(platform)
    assert values(seen) == {"targets_down": 0, "rules_missing": 0}
    assert seen.metrics["targets_down"].n == 4  # the pod, the server itself, two jobs


def test_what_stays_down_is_red_and_named(platform):
    serve(platform, [target(health="down"), SELF], loaded())
    seen = measured(platform)
    assert values(seen)["targets_down"] == 1
    assert seen.notes == ["ns/a: down"]


def test_what_comes_up_in_time_is_green(platform):
    turns = iter(["unknown", "unknown", "up"])
    platform.answers[TARGETS] = lambda _: {
        "status": "success",
        "data": {"activeTargets": [target(health=next(turns)), SELF]},
    }
    assert values(measured(platform, 5.0))["targets_down"] == 0


def test_what_came_meanwhile_is_not_judged(platform):
    first = [target(health="unknown"), SELF]
    then = [target(), target("10.0.0.9:1", "down"), SELF]
    turns = iter([first, then])
    platform.answers[TARGETS] = lambda _: {
        "status": "success",
        "data": {"activeTargets": next(turns, then)},
    }
    assert values(measured(platform, 0.05))["targets_down"] == 0


def test_a_prometheus_that_does_not_answer_is_an_error(platform):
    del platform.answers[TARGETS]
    with pytest.raises(ProbeError):
        measured(platform)


def test_the_scrape_fault_asks_for_a_port_where_nobody_listens(platform):
    def run(item):
        if item["kind"] != "Pod":
            return None
        status = {"phase": "Running", "podIP": "10.0.0.7", "containerStatuses": [{"ready": True}]}
        return {**item, "status": status}

    platform.on_create = run
    with monitoring_ready.GATE.faults[0].plant(Context(platform)):
        seen = measured(platform)
        assert values(seen)["targets_down"] == 1
        assert "10.0.0.7:9 is no target" in seen.notes[0]
    assert values(measured(platform))["targets_down"] == 0
    assert platform.planted == []


def test_the_rules_fault_takes_a_file_out_and_brings_it_back(platform):
    volumes = [{"name": "data"}, {"name": "rules", "configMap": {"name": "rules-abc"}}]
    platform.put(
        named(
            "StatefulSet",
            "prometheus",
            "monitoring",
            "apps/v1",
            generation=1,
            spec={
                "replicas": 1,
                "selector": {"matchLabels": {"a": "b"}},
                "template": {"spec": {"volumes": volumes}},
            },
            status={"observedGeneration": 1, "readyReplicas": 1},
        )
    )
    data = {"alerts.yaml": "a", "missing.yaml": "m"}
    rules = ("v1", "ConfigMap", "rules-abc", "monitoring")
    platform.put(named("ConfigMap", "rules-abc", "monitoring", data=data))
    with monitoring_ready.GATE.faults[1].plant(Context(platform)):
        assert platform.get(*rules)["data"] == {"alerts.yaml": "a"}
    assert platform.get(*rules)["data"] == data


def test_a_workload_without_a_rules_volume_is_an_error():
    bare = named("StatefulSet", "p", "ns", spec={"template": {"spec": {"volumes": []}}})
    with pytest.raises(ProbeError, match="rules"):
        monitoring_ready._rules_of(bare)

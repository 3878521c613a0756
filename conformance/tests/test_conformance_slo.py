"""SLO files: every rule that a file can break, and the numbers that are shipped."""

import pytest
import yaml

from conformance import catalogue, plan, slo, verdict
from conformance.errors import SloError
from conformance.gate import Measurement, Observation, Phase
from conformance.slo import Limit, Profile, Threshold

METRIC = {"min": 0.85, "bound": "low", "n_min": 600}


def written(folder, name="x.yaml", *, metric=None, gate=None, **top):
    entry = gate or {"required": True, "metrics": {"x": metric or METRIC}}
    data = {"environment": "x", "profiles": {"full": {}}, "gates": {"data": {"alpha": entry}}}
    file = folder / name
    file.write_text(yaml.safe_dump(data | top, sort_keys=False))
    return file


def test_a_threshold_is_read(tmp_path):
    threshold = slo.load(written(tmp_path)).gates["alpha"].metrics["x"]
    assert threshold == Threshold("x", Limit("min", 0.85), "low", {"full": 600})


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ({}, "not valid"),
        ({"min": 1, "max": 2}, "valid under each"),
        ({"min": "high"}, "not of type 'number'"),
        ({"min": 1, "n_min": 0}, ""),
        ({"min": 1, "n_min": {"demo": 3}}, ""),
        ({"min": 1, "bound": "middle"}, "not one of"),
        ({"min": 1, "maximum": 2}, "maximum"),
        ({"min": 1, "production": {"min": 2}}, "'reason' is a dependency"),
        ({"min": 1, "reason": "it is slow here"}, "'production' is a dependency"),
        ({"min": 1, "production": {"min": 2, "max": 3}, "reason": "it is slow here"}, ""),
        ({"max": 1, "bound": "low"}, "cannot be judged by the low bound"),
        ({"min": 1, "bound": "high"}, "cannot be judged by the high bound"),
        ({"equals": 1, "bound": "low"}, "cannot be judged by the low bound"),
    ],
)
def test_a_wrong_metric_is_told_with_file_and_line(tmp_path, metric, told):
    with pytest.raises(SloError, match=r"x\.yaml:\d+: gates\.data\.alpha") as caught:
        slo.load(written(tmp_path, gate={"required": True, "metrics": {"x": metric}}))
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ({"required": True}, "gates.data.alpha"),
        ({"required": True, "metrics": {}}, "gates.data.alpha"),
        ({"not_applicable": ""}, "gates.data.alpha"),
        ({"not_applicable": "no cluster", "required": True}, "gates.data.alpha"),
        ({"required": False, "metrics": {"x": METRIC}}, "needs a reason"),
    ],
)
def test_a_wrong_gate_is_told(tmp_path, gate, told):
    with pytest.raises(SloError, match=told):
        slo.load(written(tmp_path, gate=gate))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ("a: [", "not YAML"),
        ("- a", "not of type 'object'"),
        ("environment: x\nenvironment: y\n", r"x\.yaml:2: environment: declared twice"),
        ("environment: x\ngates: {data: {Alpha: {not_applicable: no cluster}}}\n", "gates.data"),
        ("environment: x\ngates: {weeks: {}}\n", "weeks"),
        ("environment: x\ngates: {}\n", "profiles: full is missing"),
        ("environment: x\nprofiles: {full: {bound: point}}\ngates: {}\n", "profiles.full"),
        ("environment: x\nprofiles: {full: {}, demo: {}}\ngates: {}\n", "profiles.demo"),
        ("environment: x\ninherits: ../x.yaml\ngates: {}\n", "inherits"),
        ("environment: x\ninherits: none.yaml\ngates: {}\n", "No such file"),
    ],
)
def test_a_wrong_file_is_told(tmp_path, text, told):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(SloError, match=told):
        slo.load(file)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(SloError, match="No such file"):
        slo.load(tmp_path / "none.yaml")


def test_a_gate_in_two_phases_is_refused(tmp_path):
    entry = {"not_applicable": "no cluster"}
    gates = {"data": {"alpha": entry}, "intelligence": {"alpha": entry}}
    with pytest.raises(SloError, match="declared in two phases"):
        slo.load(written(tmp_path, gates=gates))


def test_a_child_takes_what_it_does_not_declare(tmp_path):
    written(tmp_path, "parent.yaml", parameters={"all": {"seed": 1}})
    child = tmp_path / "child.yaml"
    child.write_text("environment: y\ninherits: parent.yaml\ngates: {}\n")
    loaded = slo.load(child)
    assert (loaded.environment, loaded.parameters) == ("y", {"all": {"seed": 1}})
    assert list(loaded.gates) == ["alpha"]
    assert loaded.digest != slo.load(tmp_path / "parent.yaml").digest


def test_a_time_limit_is_inherited_unless_it_is_declared(tmp_path):
    parent = {"timeout_seconds": 1800}
    written(tmp_path, "parent.yaml", **parent)
    child = tmp_path / "child.yaml"
    child.write_text("environment: y\ninherits: parent.yaml\ngates: {}\n")
    assert slo.load(child).timeout_seconds == 1800
    child.write_text("environment: y\ninherits: parent.yaml\ntimeout_seconds: 5\ngates: {}\n")
    assert slo.load(child).timeout_seconds == 5
    assert slo.load(written(tmp_path)).timeout_seconds == slo.TIMEOUT_SECONDS


def relaxed(tmp_path, here, there=METRIC, gate=None):
    production = written(tmp_path, "production.yaml", metric=there)
    return slo.load(written(tmp_path, metric=here, gate=gate), production)


WHY = {"production": {"min": 0.85}, "reason": "two CPU cores are slow"}


@pytest.mark.parametrize(
    ("here", "told"),
    [
        ({"min": 0.8, "bound": "low"}, "weaker than production"),
        ({"min": 0.85}, "weaker than production"),
        ({"min": 0.8, **WHY}, "only a metric in seconds"),
        (
            {
                "min": 0.8,
                "relaxed_because": "cpu",
                "production": {"min": 0.9},
                "reason": "slow CPU",
            },
            "in its own file",
        ),
        ({"min": 0.9, "bound": "low", **WHY}, "is not relaxed"),
        ({"max": 0.9}, "weaker than production"),
    ],
)
def test_a_relaxation_must_be_declared_true_and_due_to_the_cpu(tmp_path, here, told):
    with pytest.raises(SloError, match=told):
        relaxed(tmp_path, here)


def test_a_cpu_bound_metric_may_be_relaxed(tmp_path):
    assert relaxed(tmp_path, {"min": 0.8, "relaxed_because": "cpu", "n_min": 600, **WHY})
    slow = {"max": 9, "unit": "s", "production": {"max": 3}, "reason": "two CPU cores"}
    assert relaxed(tmp_path, slow, there={"max": 3, "unit": "s"})


def test_a_stricter_number_needs_no_reason(tmp_path):
    assert relaxed(tmp_path, {"min": 0.9, "bound": "low", "n_min": 600})


def test_a_gate_or_metric_of_production_cannot_be_dropped(tmp_path):
    with pytest.raises(SloError, match="x is missing, but production judges it"):
        relaxed(tmp_path, None, gate={"required": True, "metrics": {"y": {"min": 0}}})
    production = written(tmp_path, "production.yaml")
    other = written(tmp_path, gates={"data": {}})
    with pytest.raises(SloError, match=r"alpha: missing, but production\.yaml has it"):
        slo.load(other, production)


def test_a_gate_may_be_not_applicable_but_not_in_another_phase(tmp_path):
    entry = {"not_applicable": "no cluster here"}
    assert relaxed(tmp_path, None, gate=entry)
    moved = written(
        tmp_path, gates={"intelligence": {"alpha": {"required": True, "metrics": {"x": METRIC}}}}
    )
    with pytest.raises(SloError, match="in another phase"):
        slo.load(moved, tmp_path / "production.yaml")


def test_a_production_number_for_no_metric_of_production_is_refused(tmp_path):
    metrics = {"x": METRIC, "y": {"min": 0, "production": {"min": 1}, "reason": "two CPU cores"}}
    with pytest.raises(SloError, match="no such metric"):
        relaxed(tmp_path, None, gate={"required": True, "metrics": metrics})


N = {"min": 0.85, "bound": "low", "n_min": {"full": 600, "demo": 30}}


@pytest.mark.parametrize(
    ("here", "parameters", "told"),
    [
        (
            {**N, "n_min": {"full": 599, "demo": 30}},
            {},
            r"n_min of x \(full\) is 599, production's is 600",
        ),
        ({**N, "n_min": {"full": 600, "demo": 29}}, {}, r"n_min of x \(demo\) is 29"),
        (N, {"all": {"clients": 2}}, r"clients \(full\) is 2, production's is 50"),
        (N, {"full": {"queries": 1000}, "demo": {"queries": 9}}, r"queries \(demo\) is 9"),
    ],
)
def test_a_smaller_sample_than_productions_needs_its_reason(tmp_path, here, parameters, told):
    profiles = {"full": {}, "demo": {"bound": "point", "n_min_share": 0.1}}
    theirs = {"all": {"clients": 50, "seed": 9}, "full": {"queries": 1000}, "demo": {"queries": 10}}
    entry = {"required": True, "metrics": {"x": N}, "parameters": theirs}
    production = written(tmp_path, "production.yaml", gate=entry, profiles=profiles)
    ours = {"required": True, "metrics": {"x": here}, "parameters": parameters}
    with pytest.raises(SloError, match=told):
        slo.load(written(tmp_path, gate=ours, profiles=profiles), production)
    ours["smaller_because"] = "two CPU cores are slow"
    loaded = slo.load(written(tmp_path, gate=ours, profiles=profiles), production)
    assert loaded.gates["alpha"].smaller_because == "two CPU cores are slow"


def test_a_smaller_shared_sample_needs_its_reason_and_a_reason_needs_a_smaller_sample(tmp_path):
    production = written(tmp_path, "production.yaml", samples={"a": {"full": {"queries": 10}}})
    ours = {"full": {"queries": 9}}
    with pytest.raises(SloError, match=r"samples\.a: queries \(full\) is 9"):
        slo.load(written(tmp_path, samples={"a": ours}), production)
    reasoned = {"smaller_because": "two CPU cores are slow", **ours}
    loaded = slo.load(written(tmp_path, samples={"a": reasoned}), production)
    assert loaded.samples == {"a": ours}
    reasoned["full"] = {"queries": 10}
    with pytest.raises(SloError, match="nothing is smaller"):
        slo.load(written(tmp_path, samples={"a": reasoned}), production)
    gate = {"required": True, "metrics": {"x": METRIC}, "smaller_because": "two CPU cores are slow"}
    with pytest.raises(SloError, match="nothing is smaller"):
        slo.load(written(tmp_path, gate=gate), production)


def test_profiles_scale_n_unless_it_is_written():
    demo = Profile("demo", point_only=True, n_min_share=0.05)
    assert demo.n_min(Threshold("x", Limit("min", 1), n_min={"full": 50})) == 3
    assert demo.n_min(Threshold("x", Limit("min", 1), n_min={"full": 50, "demo": 7})) == 7
    assert demo.bound(Threshold("x", Limit("min", 1), bound="low")) == "point"
    assert Profile("prove").bound(Threshold("x", Limit("min", 1), bound="low")) == "low"


@pytest.mark.parametrize("name", ["production", "staging", "lab", "local"])
def test_shipped_files_hold_their_rules(name):
    loaded = slo.load(slo.FOLDER / f"{name}.yaml", slo.FOLDER / "production.yaml")
    assert loaded.environment == name
    assert set(loaded.profiles) == {"full", "demo", "prove"}
    assert len(loaded.gates) == 41


def test_production_numbers_are_the_seeds():
    gates = slo.load(slo.FOLDER / "production.yaml").gates
    limits = {(g.id, m): str(t.limit) for g in gates.values() for m, t in g.metrics.items()}
    assert limits["retrieval-recall", "recall_at_10"] == "≥ 0.85"
    assert limits["retrieval-latency", "p95_seconds"] == "≤ 0.5"
    assert limits["vectordb-latency", "p95_seconds"] == "≤ 0.2"
    assert limits["relevance-score", "mean"] == "≥ 0.75"
    assert limits["embedding-cache", "hit_ratio"] == "≥ 0.4"
    assert limits["grounded-responses", "grounded_share"] == "≥ 0.9"
    assert limits["index-freshness", "staleness_hours"] == "≤ 2"
    assert limits["answer-latency", "p95"] == "≤ 3"
    assert limits["hnsw-parameters", "m"] == "= 32"
    assert limits["load-500-users", "users"] == "≥ 500"


def test_gates_without_modules_are_errors_elsewhere_than_on_local():
    numbers = slo.load(slo.FOLDER / "lab.yaml")
    planned = {p.id: p for p in plan.make(catalogue.discover(), numbers)}
    for gate_id in ("mtls-strict", "load-500-users"):
        if planned[gate_id].gate is None:
            assert planned[gate_id].error == "the SLO file names it, no module measures it"


def test_every_gate_on_disk_loads_and_is_named():
    entries = catalogue.discover()
    named = slo.load(slo.FOLDER / "production.yaml").gates
    assert {i for i, entry in entries.items() if entry.error} == set()
    assert set(entries) <= set(named)


def test_a_metric_that_a_demo_cannot_judge_is_information_there_and_judged_elsewhere():
    threshold = slo.Threshold("x", slo.Limit("max", 1), not_in_demo="too small a corpus")
    gate = slo.GateSlo("g", Phase.DATA, metrics={"x": threshold})
    observation = Observation({"x": Measurement(2.0, 10)})
    judged = {
        name: verdict.check(observation, gate, slo.Profile(name))[0].judged
        for name in ("demo", "full", "prove")
    }
    assert judged == {"demo": False, "full": True, "prove": True}

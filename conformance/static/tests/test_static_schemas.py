"""The real schemas, closed: unknown kinds, unknown fields at any depth, and wrong values are refused."""

import pytest

from conformance.errors import SuiteError
from conformance.static import generated, schemas, sources
from conformance.static.closed import close
from conformance.static.render import parse

POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, namespace: b}
spec: {rules: [{from: [{source: {serviceAccounts: [x/y]}}]}]}
"""
SCALER = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: a, namespace: b}
spec: {scaleTargetRef: {name: a}, triggers: [{type: prometheus, metadata: {query: up}}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: b}
spec: {containers: [{name: a, image: b, resources: {limits: {cpu: 1}}}]}
"""


def rules_of(text):
    return [finding.rule for item in parse(text) for finding in schemas.check(item)]


@pytest.mark.parametrize("text", [POLICY, SCALER, POD])
def test_good_objects_pass(text):
    assert rules_of(text) == []


@pytest.mark.parametrize(
    ("text", "old", "new", "rule"),
    [
        (POLICY, "serviceAccounts:", "serviceAcounts:", "unknown-field"),
        (POLICY, "[x/y]", "x/y", "invalid-value"),
        (POLICY, "security.istio.io/v1", "security.istio.io/v9", "unknown-kind"),
        (POLICY, "name: a,", "nam: a,", "unknown-field"),
        (SCALER, "scaleTargetRef: {name: a}", "scaleTargetRef: {}", "invalid-value"),
        (SCALER, "triggers:", "trigger: [], triggers:", "unknown-field"),
        (POD, "resources:", "resource:", "unknown-field"),
        (POD, "image: b", "image: 1", "invalid-value"),
        (POD, "kind: Pod", "kind: Pot", "unknown-kind"),
    ],
)
def test_bad_objects_are_refused(text, old, new, rule):
    assert rules_of(text.replace(old, new)) == [rule]


def test_what_a_schema_leaves_open_stays_open():
    schema = {"type": "object", "properties": {"a": {"x-kubernetes-preserve-unknown-fields": True}}}
    closed = close(schema)
    assert closed["additionalProperties"] is False
    assert "additionalProperties" not in closed["properties"]["a"]


def test_a_pattern_that_finds_no_definition_is_an_error(tmp_path):
    (tmp_path / "a.yaml").write_text("kind: ConfigMap\n")
    with pytest.raises(SuiteError, match="no CustomResourceDefinition"):
        list(sources._read(tmp_path, "*.yaml"))


def test_kubernetes_has_no_such_api():
    assert sources.openapi("nobody.example.com", "v1") == {}


TOPIC = """
apiVersion: kafka.strimzi.io/v1
kind: KafkaTopic
metadata: {name: a, namespace: b}
spec: {partitions: 1, replicas: 3, config: {retention.ms: 1}}
"""


def test_what_upstream_generates_is_held_against_as_well():
    assert rules_of(TOPIC) == []
    assert rules_of(TOPIC.replace("replicas", "replica")) == ["unknown-field"]
    assert rules_of(TOPIC.replace("partitions: 1", "partitions: one")) == ["invalid-value"]


def test_a_jar_that_is_not_the_pinned_one_generates_nothing(monkeypatch, tmp_path):
    def copied(command, **_):
        (tmp_path / "api-1.jar").write_bytes(b"another")

    monkeypatch.setattr(generated, "run", copied)
    with pytest.raises(SuiteError, match=r"io\.strimzi:api:1: SHA-256 .*, generated\.yaml has 0"):
        generated.fetch("io.strimzi:api:1", "0" * 64, tmp_path)

"""The matrix file and what policies are read as."""

import pytest

from conformance.errors import SuiteError
from conformance.static import edges, flows, matrix
from conformance.static.matrix import ANY, OUTSIDE, Edge
from conformance.static.render import parse


def test_the_matrix_has_the_seeds_flows():
    seeds = matrix.read().flows
    assert Edge("rag-retrieval", "retrieval", "rag-llm", "llm", 8082) in seeds
    assert {e.from_namespace for e in seeds if e.to_namespace == "rag-llm"} == {"rag-retrieval"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "flows: []",
        "flows: [{from: a/b, to: c, ports: [1], why: x}]\noutside: []\nexceptions: []",
    ],
)
def test_a_malformed_matrix_is_an_error(tmp_path, text):
    path = tmp_path / "matrix.yaml"
    path.write_text(text)
    with pytest.raises(SuiteError, match="not a matrix"):
        matrix.read(path)


def test_a_flow_needs_a_reason(tmp_path):
    path = tmp_path / "matrix.yaml"
    path.write_text(
        "flows: [{from: a/b, to: c/d, ports: [1], why: ''}]\noutside: []\nexceptions: []"
    )
    with pytest.raises(SuiteError, match="why"):
        matrix.read(path)


POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: rag-x}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/name: x}}
  ingress: [%s]
"""
PORT = "ports: [{port: 80}]"
NAMED = "namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: rag-y}}"


@pytest.mark.parametrize(
    ("rule", "caller", "port"),
    [
        (f"{{from: [{{{NAMED}}}], {PORT}}}", ("rag-y", ANY), 80),
        (f"{{from: [{{{NAMED}}}]}}", ("rag-y", ANY), 0),
        (f"{{from: [{{podSelector: {{}}}}], {PORT}}}", ("rag-x", ANY), 80),
        (f"{{from: [{{namespaceSelector: {{}}}}], {PORT}}}", (ANY, ANY), 80),
        (f"{{{PORT}}}", (ANY, ANY), 80),
        ("{}", (ANY, ANY), 0),
        (f"{{from: [{{ipBlock: {{cidr: 0.0.0.0/0}}}}], {PORT}}}", (ANY, ANY), 80),
        (
            f"{{from: [{{ipBlock: {{cidr: 0.0.0.0/0, except: [10.0.0.0/8]}}}}], {PORT}}}",
            (OUTSIDE, ANY),
            80,
        ),
        ("{from: [], ports: [{port: 80, endPort: 90}]}", (ANY, ANY), 0),
    ],
)
def test_how_a_network_policy_is_read(lab, rule, caller, port):
    found = edges.ingress(lab.having(parse(POLICY % rule)))
    assert [e for e in found if e.to_namespace == "rag-x"] == [Edge(*caller, "rag-x", "x", port)]


def test_a_selector_of_other_labels_counts_as_every_pod():
    assert edges._account({"matchLabels": {"tier": "x"}}) == ANY
    assert edges._account({"matchExpressions": [{"key": "x", "operator": "Exists"}]}) == ANY


def test_an_entry_holds_under_the_vars_that_it_names(tmp_path):
    path = tmp_path / "matrix.yaml"
    path.write_text(
        "flows:\n"
        "  - {from: a/x, to: b/y, ports: [1], why: w, when: {store: one}}\n"
        "  - {from: a/x, to: b/y, ports: [2], why: w, when: {store: [one, two]}}\n"
        "  - {from: a/x, to: b/z, ports: [3], why: w, unless: {store: one}}\n"
        "leaving:\n"
        "  - {from: a/x, ports: [443], why: w, when: {store: one}}\n"
        "exceptions: []\noutside: []\n"
    )
    under = {name: matrix.read(path, {"store": name}) for name in ("one", "two", "none")}
    assert {name: {e.port for e in m.flows} for name, m in under.items()} == {
        "one": {1, 2},
        "two": {2, 3},
        "none": {3},
    }
    assert {str(e) for e in under["one"].leaving} == {"a/x -> outside/*:443"}
    assert not under["two"].leaving
    assert ("b", "z") in under["one"].known
    assert ("b", "z") not in under["one"].accounts


def test_an_identity_that_an_operator_names_is_its_accounts(tmp_path):
    path = tmp_path / "matrix.yaml"
    path.write_text(
        "flows: [{from: rag-a/x, to: rag-a/y, ports: [1], why: w}]\n"
        "identities: [{account: rag-a/x, is: rag-a/of-x, when: {overlay: cloud}, why: w}]\n"
        "exceptions: []\noutside: []\n"
    )
    cloud, own = matrix.read(path, {"overlay": "cloud"}), matrix.read(path)
    assert cloud.layer_accounts == {("rag-a", "y")}  # x has no folder in the vault
    assert own.layer_accounts == {("rag-a", "x"), ("rag-a", "y")} and not own.identities
    seen = {
        name: flows._of_account(Edge("rag-a", name, "rag-a", "y", 1), cloud)
        for name in ("of-x", "x", "y")
    }
    assert seen["of-x"] in cloud.flows and seen["y"].from_account == "y"
    assert seen["x"] not in cloud.flows  # no pod runs under its account's name

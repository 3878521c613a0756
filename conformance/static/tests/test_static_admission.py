"""The admission proof: against a real throwaway API server where its programs are built, and its parts."""

import json
import sys
from pathlib import Path

import httpx
import pytest

from conformance.cluster.node import programs
from conformance.errors import SuiteError
from conformance.static import admission, apiserver, upstream
from conformance.static.pods import pods
from conformance.static.render import changed, parse

FIXTURES = Path(__file__).parent / "fixtures"
BUILT = all(programs.is_cached(name) for name in ("etcd", "kube"))
HELM = all(programs.is_cached(name) for name in ("helm", "kube"))
REFUSED = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: root, namespace: rag-llm}
spec:
  selector: {matchLabels: {app: root}}
  template:
    metadata: {labels: {app: root}}
    spec: {containers: [{name: a, image: b, securityContext: {privileged: true}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: two, namespace: rag-gateway}
spec:
  gatewayClassName: istio
  listeners: [{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: typo, namespace: rag-llm}
spec: {selector: {app: root}, ports: [{port: 80}], sesionAffinity: None}
"""


@pytest.mark.skipif(
    not BUILT, reason="needs etcd and kube-apiserver: python -m conformance.static.admission"
)
def test_a_real_api_server_takes_the_lab_and_refuses_what_is_wrong(lab):
    with apiserver.throwaway() as client:
        found = {f.where: f.message for f in admission.judge(lab.having(parse(REFUSED)), client)}
    assert set(found) == {
        "the pod of Deployment rag-llm/root",
        "Gateway rag-gateway/two",
        "Service rag-llm/typo",
    }
    assert "violates PodSecurity" in found["the pod of Deployment rag-llm/root"]
    assert "sesionAffinity" in found["Service rag-llm/typo"]


class Server:
    """Answers discovery and applies; refuses objects named `bad`."""

    def __init__(self, served=("Namespace", "ConfigMap", "Pod")):
        self.served, self.applied = served, []

    def __call__(self, request):
        if request.method == "GET":
            resources = [
                {"kind": kind, "name": f"{kind.lower()}s", "namespaced": kind != "Namespace"}
                for kind in self.served
            ]
            return httpx.Response(200, json={"resources": resources})
        item = json.loads(request.content)
        self.applied.append((request.url.path, request.url.params.get("dryRun")))
        if item["metadata"]["name"] == "bad":
            return httpx.Response(422, json={"message": "is bad"})
        return httpx.Response(200, json=item)


def client(server):
    return httpx.Client(transport=httpx.MockTransport(server), base_url="https://api")


def item(kind, name, namespace=None):
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta}


def test_an_object_is_applied_where_discovery_says():
    server = Server()
    api = admission.Api(client(server))
    assert api.apply(item("ConfigMap", "a", "b"), dry=True) is None
    assert api.apply(item("Namespace", "b"), dry=False) is None
    assert api.apply(item("ConfigMap", "bad", "b"), dry=True) == "is bad"
    assert api.apply(item("Gadget", "a", "b"), dry=True) == "the server has no v1 Gadget"
    assert server.applied[:2] == [
        ("/api/v1/namespaces/b/configmaps/a", "All"),
        ("/api/v1/namespaces/b", None),
    ]


def test_refusals_are_findings(lab, monkeypatch):
    monkeypatch.setattr(admission, "definitions", lambda: iter(()))
    small = type(lab)("lab", (item("Namespace", "b"), item("ConfigMap", "bad", "b")), ())
    found = list(admission.judge(small, client(Server())))
    assert [str(f) for f in found] == ["admission: ConfigMap b/bad: is bad"]


def test_a_crd_that_is_never_served_is_an_error(lab, monkeypatch):
    crd = {
        **item("CustomResourceDefinition", "gadgets"),
        "spec": {
            "group": "x.io",
            "names": {"kind": "Gadget"},
            "versions": [{"name": "v1", "served": True}],
        },
    }
    monkeypatch.setattr(admission, "definitions", lambda: iter([crd]))
    monkeypatch.setattr(admission, "_ESTABLISHED_SECONDS", 0)
    server = Server(served=("Namespace", "CustomResourceDefinition"))
    with pytest.raises(SuiteError, match="is not served"):
        list(admission.judge(type(lab)("lab", (), ()), client(server)))


def test_a_stateful_pod_gets_its_claims_as_volumes(lab):
    prometheus = next(p for p in pods(lab) if p.where == "StatefulSet monitoring/prometheus")
    names = {volume["name"] for volume in admission._pod(prometheus)["spec"]["volumes"]}
    assert {"config", "data", "rules"} <= names


def test_a_server_that_ends_says_why(tmp_path, monkeypatch):
    script = tmp_path / "ends"
    script.write_text(f"#!{sys.executable}\nprint('no such flag')\n")
    script.chmod(0o755)
    monkeypatch.setattr(apiserver.programs, "program", lambda name: script)
    with pytest.raises(SuiteError, match="no such flag"), apiserver.throwaway():
        pass


@pytest.mark.parametrize(
    ("found", "code"), [([], 0), ([admission.Finding("admission", "a", "b")], 1)]
)
def test_the_exit_code_tells(lab, monkeypatch, capsys, found, code):
    monkeypatch.setattr(sys, "argv", ["admission", "lab"])
    monkeypatch.setattr(admission, "throwaway", lambda: client(Server()))
    monkeypatch.setattr(admission, "expand", lambda environment: environment)
    monkeypatch.setattr(admission, "judge", lambda environment, api: iter(found))
    assert admission.main() == code
    assert f"{len(found)} refused" in capsys.readouterr().out


@pytest.mark.skipif(
    not HELM, reason="needs helm and kubectl: python -m conformance.static.admission"
)
def test_charts_and_bundles_become_objects(lab):
    found = {o.path: {i["kind"] for i in o.objects} for o in upstream.expand(lab).overlays}
    assert "DaemonSet" in found["HelmRelease istio-cni"]
    assert "APIService" in found["Kustomization keda"]
    kserve = next(o for o in upstream.expand(lab).overlays if o.path == "HelmRelease kserve")
    assert "kube-rbac-proxy" not in str(kserve.objects)


def test_an_artifact_that_nobody_makes_is_an_error(lab):
    other = parse((FIXTURES / "lab-served.yaml").read_text())
    with pytest.raises(SuiteError, match=r"v2\.99\.0: not in"):
        list(upstream._bundles(lab.having(other)))


def test_a_source_that_is_not_there_is_an_error(lab):
    with pytest.raises(SuiteError, match="no OCIRepository nobody"):
        upstream._entry(lab, "nobody", {})


def test_a_chart_that_does_not_render_is_an_error(tmp_path, monkeypatch):
    script = tmp_path / "helm"
    script.write_text("#!/bin/sh\necho no such value >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(upstream.programs, "program", lambda name: script)
    release = {"spec": {"targetNamespace": "a", "releaseName": "b"}}
    with pytest.raises(SuiteError, match="no such value"):
        upstream._template(release, tmp_path)


def test_patches_and_namespaces_reach_what_upstream_makes():
    release = {"kind": "HelmRelease", "metadata": {"name": "r"}, "spec": {"targetNamespace": "n"}}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "c"},
    }
    patch = {"target": {"kind": "ConfigMap"}, "patch": "- {op: add, path: /data, value: {a: b}}"}
    patched = changed([item("ConfigMap", "m"), role], {"patches": [patch]})
    made = upstream._overlay(release, patched).objects
    assert {o["kind"]: o["metadata"].get("namespace") for o in made} == {
        "ConfigMap": "n",
        "ClusterRole": None,
    }
    assert next(o for o in made if o["kind"] == "ConfigMap")["data"] == {"a": "b"}

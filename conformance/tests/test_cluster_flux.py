"""What Flux says of a cluster, and how it is read: from its real API over HTTP."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from conformance.cluster.base import ClusterError
from conformance.cluster.flux import Flux, summary


def kustomization(name="apps", ready="True", generation=1, **status):
    conditions = [{"type": "Ready", "status": ready, "message": f"{name} says"}]
    return {
        "kind": "Kustomization",
        "metadata": {"name": name, "generation": 1},
        "spec": {},
        "status": {"observedGeneration": generation, "conditions": conditions, **status},
    }


def judged(item, revision=""):
    found = summary(item, revision)
    return found.ready, found.said


def test_ready_means_ready_at_the_revision():
    item = kustomization(lastAppliedOriginRevision="main@sha1:a")
    assert judged(item, "main@sha1:a") == (True, "main@sha1:a")
    assert judged(item, "main@sha1:c") == (False, "still at main@sha1:a")
    git = kustomization(lastAppliedRevision="main@sha1:a")
    assert judged(git, "main@sha1:c") == (False, "still at main@sha1:a")
    other = kustomization(lastAppliedRevision="v2.20.2")
    assert judged(other, "main@sha1:c") == (True, "v2.20.2")


def test_what_is_not_ready_old_or_new_is_not_ready():
    assert judged(kustomization(ready="False")) == (False, "apps says")
    assert not judged(kustomization(generation=0))[0]
    assert judged({"metadata": {"name": "x", "generation": 1}}) == (False, "not reconciled yet")


def test_what_is_suspended_is_not_ready():
    assert judged(kustomization() | {"spec": {"suspend": True}}) == (False, "suspended")


@pytest.fixture
def cluster(tmp_path):
    """An API server that has the lists it is told, and its kubeconfig."""
    lists = {}

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            plural = self.path.partition("?")[0].rpartition("/")[2]
            self.send_response(200 if plural in lists else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"items": lists.get(plural, [])}).encode())

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(kubeconfig_of(f"http://127.0.0.1:{server.server_port}"))
    yield lists, kubeconfig
    server.shutdown()


def kubeconfig_of(server):
    named = {"name": "x"}
    return yaml.safe_dump(
        {
            "current-context": "x",
            "clusters": [named | {"cluster": {"server": server}}],
            "contexts": [named | {"context": {"cluster": "x", "user": "x"}}],
            "users": [named | {"user": {}}],
        }
    )


def test_sources_and_releases_are_shown_too(cluster):
    lists, kubeconfig = cluster
    broken = kustomization("chart", ready="False") | {"kind": "HelmRelease"}
    lists.update(kustomizations=[kustomization()], helmreleases=[broken])
    lists.update(ocirepositories=[], gitrepositories=[])
    found = [(item.kind, item.name, item.ready) for item in Flux(kubeconfig).everything()]
    assert found == [("Kustomization", "apps", True), ("HelmRelease", "chart", False)]


def test_waiting_ends_when_all_are_ready_and_else_with_names_and_reasons(cluster):
    lists, kubeconfig = cluster
    lists["kustomizations"] = [kustomization(), kustomization("mesh", ready="False")]
    said = []
    with pytest.raises(ClusterError, match=r"not Ready after 0 s:\n  mesh: mesh says"):
        Flux(kubeconfig).wait("", 0, said.append)
    assert said == ["1 of 2 ready"]
    lists["kustomizations"] = [kustomization()]
    Flux(kubeconfig).wait("", 0, said.append)


def test_what_does_not_render_is_not_waited_for(cluster, monkeypatch):
    lists, kubeconfig = cluster
    broken = kustomization("mesh", ready="False")
    broken["status"]["conditions"][0]["reason"] = "BuildFailed"
    lists["kustomizations"] = [broken]
    monkeypatch.setattr("conformance.cluster.flux._BROKEN_SECONDS", 0)
    with pytest.raises(ClusterError, match="not Ready after [01] s:\n  mesh: mesh says"):
        Flux(kubeconfig).wait("", 600, lambda text: None)


def test_no_kustomization_at_all_is_not_ready(cluster):
    lists, kubeconfig = cluster
    lists["kustomizations"] = []
    with pytest.raises(ClusterError, match="there is no Kustomization"):
        Flux(kubeconfig).wait("", 0, lambda text: None)


def test_a_cluster_without_flux_and_one_that_is_away_say_so(cluster, tmp_path):
    _, kubeconfig = cluster
    with pytest.raises(ClusterError, match="Flux is not installed there"):
        list(Flux(kubeconfig).everything())
    kubeconfig.write_text(kubeconfig_of("http://127.0.0.1:9"))
    with pytest.raises(ClusterError, match="not Ready after 0 s:\n.*does not answer"):
        Flux(kubeconfig).wait("", 0, lambda text: None)
    with pytest.raises(ClusterError, match="there is no cluster yet"):
        Flux(tmp_path / "none")

"""`ragctl cluster`: which cluster is meant, how the suite is told of it, and what is only the lab's."""

import json
from types import SimpleNamespace

import httpx
import pytest
from click.testing import CliRunner

from conformance.cluster.base import ClusterError
from conformance.cluster.existing import ExistingCluster
from conformance.cluster.flux import Reconciled
from conformance.cluster.node.provider import NodeCluster
from conformance.gate import ProbeError
from ragctl import cluster as command
from ragctl.layout import Layout
from ragctl.main import main
from ragctl.site import Site


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_STATE_DIR", str(tmp_path / "state"))
    for name in ("KUBECONFIG_FILE", "RAG_ENVIRONMENT", "RAG_REVISION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("conformance.cluster.choose.docker_answers", lambda: False)
    return Layout.from_environment()


@pytest.fixture
def kubeconfig(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{}")
    return path


def run(*words):
    return CliRunner().invoke(main, ["cluster", *map(str, words)])


def described(site):
    return json.loads(site.target.read_text())


def test_the_lab_is_judged_as_the_lab_and_yours_as_production(layout, kubeconfig):
    lab, yours = Site.of(layout), Site.of(layout, kubeconfig)
    lab.describe()
    yours.describe()
    assert described(lab) == {"environment": "lab", "kubeconfig": "kubeconfig"}
    assert described(yours) == {"environment": "production", "kubeconfig": str(kubeconfig)}
    assert lab.target != yours.target
    staging = Site.of(layout, kubeconfig, "staging")
    staging.describe()
    assert described(staging)["environment"] == "staging"
    staging.forget()
    assert not yours.target.exists()


def test_the_revision_that_it_must_run_is_told(layout, kubeconfig, monkeypatch):
    monkeypatch.setattr(command, "judge", lambda *words: 0)
    monkeypatch.setenv("RAG_REVISION", "main@sha1:01")
    assert run("--kubeconfig", kubeconfig, "gates").exit_code == 0
    assert described(Site.of(layout, kubeconfig))["revision"] == "main@sha1:01"


def test_only_the_node_is_ours_to_stop_and_to_publish_to(layout, kubeconfig):
    assert isinstance(Site.of(layout).lab, NodeCluster)
    for words in (("sync",), ("down", "--keep-data")):
        said = run("--kubeconfig", kubeconfig, *words)
        assert said.exit_code == 1
        assert "only the lab's node can do this" in said.output


def test_up_describes_the_cluster_before_it_makes_it(layout, monkeypatch):
    seen = []
    monkeypatch.setattr(NodeCluster, "create", lambda self: seen.append(Site.of(layout).target))
    assert run("up").exit_code == 0
    assert seen[0].exists()


def test_down_forgets_it_and_leaves_yours_alone(layout, kubeconfig, monkeypatch):
    monkeypatch.setattr(ExistingCluster, "create", lambda self: None)
    assert run("--kubeconfig", kubeconfig, "up").exit_code == 0
    assert Site.of(layout, kubeconfig).target.exists()
    assert run("--kubeconfig", kubeconfig, "down").exit_code == 0
    assert not Site.of(layout, kubeconfig).target.exists()
    assert kubeconfig.exists()


def test_status_says_what_is_not_ready_and_why(layout, monkeypatch):
    found = [
        Reconciled("Kustomization", "apps", True, "main@sha1:a"),
        Reconciled("OCIRepository", "fine", True, "x"),
    ]

    class Fake:
        def __init__(self, kubeconfig):
            pass

        def everything(self):
            return found

    monkeypatch.setattr(command, "Flux", Fake)
    said = run("status")
    assert (said.exit_code, "main@sha1:a" in said.output, "fine" in said.output) == (0, True, False)
    found.append(Reconciled("HelmRelease", "istiod", False, "no [such] chart"))
    said = run("status")
    assert said.exit_code == 1
    assert "HelmRelease istiod" in said.output
    assert "no [such] chart" in said.output


def test_status_of_no_cluster_says_how_to_get_one(layout):
    said = run("status")
    assert (said.exit_code, "there is no cluster yet" in said.output) == (1, True)


def test_gates_are_the_suite_with_the_clusters_target(layout, monkeypatch):
    seen = []
    monkeypatch.setattr(
        command, "judge", lambda target, *options: seen.append((target, options)) or 1
    )
    assert run("gates", "--phase", "foundation", "--prove").exit_code == 1
    assert seen == [(Site.of(layout).target, ("--phase", "foundation", "--prove"))]
    assert seen[0][0].exists()


def test_a_cluster_error_is_one_line(layout, monkeypatch):
    def fail(self):
        raise ClusterError("no room")

    monkeypatch.setattr(NodeCluster, "create", fail)
    assert "ClusterError: no room" in run("up").output


class Layers:
    """Stands for a cluster's target."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def gateway(self, tenant, *, timeout):
        def reply(request):
            self.asked.append((tenant, request.url.path, json.loads(request.content)))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(reply))

    def ingest_environment(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return {"EMBEDDING_URL": "http://door"}


@pytest.fixture
def layers_of(monkeypatch):
    def made(answer):
        found = Layers(answer)
        monkeypatch.setattr("ragctl.layers.ClusterTarget.load", lambda file: found)
        return found

    return made


def test_a_question_goes_through_the_clusters_gateway_as_the_tenant(layout, layers_of):
    found = layers_of(httpx.Response(200, json={"status": "declined", "decline_reason": "why"}))
    said = run("ask", "What is it?", "--tenant", "acme")
    assert (said.exit_code, "why" in said.output) == (0, True)
    assert found.asked == [("acme", "/v1/answer", {"question": "What is it?"})]


@pytest.mark.parametrize("words", [("ask", "What?"), ("ingest", "/documents")])
def test_layers_out_of_reach_are_one_line(layout, layers_of, words):
    layers_of(ProbeError("rag-gateway/gateway: no pod is ready"))
    said = run(*words)
    assert said.exit_code == 1
    assert "no pod is ready; see `ragctl cluster status`" in said.output.replace("\n", " ")


def test_a_cluster_that_does_not_answer_is_one_line(layout):
    said = run("ask", "What?")
    assert said.exit_code == 1
    assert "kubeconfig" in said.output


def test_documents_are_ingested_from_here(layout, layers_of, monkeypatch):
    layers_of(None)
    ran = []

    def program(command, **options):
        ran.append((command[1:], options["env"]["EMBEDDING_URL"]))
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr("ragctl.layers.subprocess.run", program)
    assert run("ingest", "/documents", "--json", "x").exit_code == 3
    words = ["-m", "rag_ingestion", "/documents", "--tenant", "demo", "--json", "x"]
    assert ran == [(words, "http://door")]

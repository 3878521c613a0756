"""The real client against an API server that is played over HTTP, and the target that holds it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from conformance import targets
from conformance.errors import TargetError
from conformance.gate import ProbeError
from conformance.probes.cluster import ApiError, Cluster
from conformance.targets.cluster import ClusterTarget
from conformance.targets.kube import client
from conformance.targets.local import LocalTarget

POD = {"metadata": {"name": "p", "namespace": "here"}}
PODS = "/api/v1/namespaces/here/pods"
ANSWERS = {
    "GET /version": {"gitVersion": "v1.36.3", "major": "1", "minor": "36"},
    "GET /apis": {"kind": "APIGroupList", "groups": []},
    "GET /api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {
                "name": "pods",
                "singularName": "pod",
                "kind": "Pod",
                "namespaced": True,
                "verbs": ["get", "list", "create", "patch", "delete"],
            }
        ],
    },
    f"GET {PODS}": {"items": [POD]},
    f"GET {PODS}/p": POD,
    f"POST {PODS}": {**POD, "made": True},
    f"PATCH {PODS}/p": POD,
    f"DELETE {PODS}/p": {},
    f"GET {PODS}/p/log": '{"a line": "of JSON"}',
    "GET /api/v1/namespaces/here/services/https:s:80/proxy/x/y": "plain text",
    "POST /api/v1/namespaces/here/serviceaccounts/a/token": {"status": {"token": "t"}},
    f"GET {PODS}/teapot": (418, {"message": "short and stout"}),
    f"DELETE {PODS}/teapot": (418, {"message": "short and stout"}),
}


class _ApiServer(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        call = {"query": parse_qs(url.query), "body": body, "type": self.headers["content-type"]}
        self.server.calls[f"{self.command} {url.path}"] = call
        missing = (404, {"message": f"{url.path} not found"})
        answer = ANSWERS.get(f"{self.command} {url.path}", missing)
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _ApiServer)
    server.calls = {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def kubeconfig(server, tmp_path):
    cluster = {"server": f"http://127.0.0.1:{server.server_port}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    return tmp_path / "kubeconfig"


@pytest.fixture
def cluster(kubeconfig):
    return Cluster(kubeconfig)


def test_objects_are_read_and_listed_with_their_kind(cluster):
    assert cluster.get("v1", "Pod", "p", "here") == POD
    assert cluster.list("v1", "Pod", "here") == [{"apiVersion": "v1", "kind": "Pod", **POD}]


def test_what_is_not_there_is_none_or_an_error_with_its_status(cluster):
    assert cluster.find("v1", "Pod", "absent", "here") is None
    assert cluster.find("v1", "Unknown", "p", "here") is None
    with pytest.raises(ApiError, match="no such kind") as raised:
        cluster.list("v1", "Unknown")
    assert raised.value.status == 404


def test_a_refusal_tells_what_was_asked_and_what_was_said(cluster):
    with pytest.raises(ApiError, match="get Pod here/teapot: 418: short and stout") as raised:
        cluster.find("v1", "Pod", "teapot", "here")
    assert (raised.value.status, raised.value.message) == (418, "short and stout")


def test_a_dry_run_says_so(cluster, server):
    item = {"apiVersion": "v1", "kind": "Pod", **POD}
    assert cluster.create(item, dry_run=True)["made"]
    assert server.calls[f"POST {PODS}"]["query"]["dryRun"] == ["All"]
    cluster.create(item)
    assert "dryRun" not in server.calls[f"POST {PODS}"]["query"]


def test_patches_are_merged_or_applied(cluster, server):
    cluster.patch("v1", "Pod", "p", {"metadata": {"labels": {"a": None}}}, "here")
    call = server.calls[f"PATCH {PODS}/p"]
    assert call["type"] == "application/merge-patch+json"
    assert call["body"] == {"metadata": {"labels": {"a": None}}}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", **POD})
    call = server.calls[f"PATCH {PODS}/p"]
    assert call["type"] == "application/apply-patch+yaml"
    assert call["query"]["force"] == ["True"] or call["query"]["force"] == ["true"]


def test_what_is_gone_need_not_be_deleted(cluster, server):
    cluster.delete("v1", "Pod", "absent", "here")
    cluster.delete("v1", "Pod", "p", "here", now=True)
    assert server.calls[f"DELETE {PODS}/p"]["query"]["gracePeriodSeconds"] == ["1"]
    with pytest.raises(ApiError):
        cluster.delete("v1", "Pod", "teapot", "here")


def test_a_log_is_text_whatever_it_holds(cluster):
    assert cluster.logs("here", "p") == '{"a line": "of JSON"}'


def test_a_service_answers_through_the_api_server(cluster, server):
    assert cluster.proxy("here", "https:s", 80, "/x/y", {"q": "up"}) == "plain text"
    (call,) = [c for path, c in server.calls.items() if path.endswith("/x/y")]
    assert call["query"] == {"q": ["up"]}


def test_a_token_is_for_its_audiences(cluster, server):
    assert cluster.token("here", "a", ["vault"]) == "t"
    (call,) = [c for path, c in server.calls.items() if path.endswith("/token")]
    assert call["body"]["spec"]["audiences"] == ["vault"]


def test_a_server_that_is_gone_is_a_probe_error(cluster, server):
    cluster.raw("/version")
    server.shutdown()
    server.server_close()
    with pytest.raises(ProbeError, match="Pod.*: no answer"):
        cluster.get("v1", "Pod", "p", "here")


def test_a_command_needs_a_server_that_speaks_websocket(cluster):
    with pytest.raises(ProbeError, match="exec in here/p/probe"):
        cluster.exec("here", "p", "probe", ["true"])


def test_threads_share_a_cluster(cluster):
    seen = []

    def work():
        for _ in range(10):
            seen.append(cluster.get("v1", "Pod", "p", "here"))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [POD] * 80


def test_no_discovery_is_kept_where_others_would_find_it(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(client.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    cluster.raw("/version")
    (folder,) = (tmp_path / "tmp").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700


def described(tmp_path, **fields):
    file = tmp_path / "target.json"
    file.write_text(json.dumps({"environment": "lab", **fields}))
    return file


def test_a_target_with_a_kubeconfig_is_a_cluster(kubeconfig, tmp_path):
    file = described(tmp_path, kubeconfig="kubeconfig", revision="main@sha1:1", note="mine")
    target = targets.load(file)
    assert isinstance(target, ClusterTarget)
    assert target.description.kubeconfig == kubeconfig
    assert target.description.revision == "main@sha1:1"
    assert target.description.extra["note"] == "mine"
    assert target.cluster.get("v1", "Pod", "p", "here") == POD


@pytest.mark.parametrize("name", ["kubeconfig", "absent"])
def test_a_cluster_that_does_not_answer_is_no_target(kubeconfig, server, tmp_path, name):
    server.shutdown()
    server.server_close()
    with pytest.raises(TargetError, match="is the cluster up"):
        targets.load(described(tmp_path, kubeconfig=name))


def test_without_a_kubeconfig_the_five_layers_are_needed(tmp_path):
    with pytest.raises(TargetError, match="gateway_url"):
        targets.load(described(tmp_path))
    with pytest.raises(TargetError, match="names no kubeconfig"):
        ClusterTarget.load(described(tmp_path, **urls()))


def urls():
    names = ("gateway_url", "retrieval_url", "embedding_url", "guard_url", "vector_db_url")
    return dict.fromkeys(names, "http://127.0.0.1:1")


def test_a_local_platform_has_no_cluster(tmp_path):
    from conformance.targets import describe

    target = LocalTarget(describe.read(described(tmp_path, **urls())))
    with pytest.raises(ProbeError, match="names no kubeconfig"):
        _ = target.cluster

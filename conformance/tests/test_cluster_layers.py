"""Doors into pods, the vault's secrets in memory, and the metrics of several replicas."""

import datetime
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from conformance.children import free_url
from conformance.gate import ProbeError
from conformance.targets import metrics
from conformance.targets.base import Description
from conformance.targets.cluster import ClusterTarget
from conformance.targets.layers import doors, vault
from conformance.targets.layers.memory import MemoryFile
from conformance.targets.layers.places import forward, place
from conformance.targets.layers.secrets import Secrets
from conformance.targets.layers.vault import Vault
from conformance.targets.processes import serving
from conformance.tests._memory_cluster import named
from conformance.tests._pod_network import pod_network

RETRIEVAL = place("retrieval")


@pytest.fixture
def cluster():
    with pod_network() as made:
        yield made


def says(text, metrics_text=""):
    async def answer(request):
        return PlainTextResponse(text + (await request.body()).decode())

    async def told(_):
        return PlainTextResponse(metrics_text)

    return Starlette(
        routes=[Route("/metrics", told), Route("/{path:path}", answer, methods=["GET", "POST"])]
    )


@pytest.fixture
def listening():
    """Starts an application; its port."""
    stack = []

    def start(application):
        url = free_url()
        context = serving(application, url)
        context.__enter__()
        stack.append(context)
        return int(url.rpartition(":")[2])

    yield start
    for context in stack:
        context.__exit__(None, None, None)


def get(door, body=b""):
    with httpx.Client(base_url=f"http://{door.address}", trust_env=False, timeout=20) as client:
        return client.post("/", content=body).text


def test_a_door_leads_to_the_pods_behind_the_service_in_turn(cluster, listening):
    for name in ("one", "two"):
        cluster.listen(RETRIEVAL, name, listening(says(name)))
    with forward(cluster, "retrieval") as door:
        assert {get(door) for _ in range(4)} == {"one", "two"}


def test_much_goes_both_ways_at_once(cluster, listening):
    cluster.listen(RETRIEVAL, "pod", listening(says("")))
    body = os.urandom(3 << 20).hex().encode()
    with forward(cluster, "retrieval") as door, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: get(door, body) == body.decode(), range(4))) == {True}


@pytest.fixture
def certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(private + made.public_bytes(encoding))
    return str(tmp_path / "server.pem")


def test_over_tls_a_greeting_is_seen_at_once_and_much_is_carried(certificate, listening):
    listener = socket.create_server(("127.0.0.1", 0))

    def greet():
        while True:
            connection, _ = listener.accept()
            connection.sendall(b"hello")

    threading.Thread(target=greet, daemon=True).start()
    with pod_network(certificate=certificate) as cluster:
        cluster.listen(RETRIEVAL, "pod", listener.getsockname()[1])
        with forward(cluster, "retrieval") as door:
            for _ in range(10):
                with socket.create_connection(("127.0.0.1", door.port), 10) as client:
                    assert client.recv(10) == b"hello"
        cluster.listen(RETRIEVAL, "pod", listening(says("")))
        body = os.urandom(1 << 20).hex().encode()
        with forward(cluster, "retrieval") as door:
            assert get(door, body) == body.decode()


def test_a_new_connection_finds_the_pod_that_came_instead(cluster, listening):
    cluster.listen(RETRIEVAL, "old", listening(says("old")))
    with forward(cluster, "retrieval") as door:
        assert get(door) == "old"
        cluster.listeners.clear()
        with pytest.raises(httpx.HTTPError):
            get(door)
        assert "nothing listens there" in door.trouble
        cluster.listen(RETRIEVAL, "new", listening(says("new")))
        assert get(door) == "new"


def test_without_a_ready_pod_the_caller_is_cut_off_and_told_why(cluster):
    with forward(cluster, "retrieval") as door:
        with pytest.raises(httpx.HTTPError):
            get(door)
        assert door.trouble == "rag-retrieval/retrieval: no pod is ready"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", door.port))


def test_past_the_service_stand_ins_are_left_out(cluster, listening):
    cluster.listen(RETRIEVAL, "own", listening(says("own")))
    cluster.listen(RETRIEVAL, "proxy", listening(says("proxy")), **{"rag-blueprint.dev/probe": "x"})
    with forward(cluster, "retrieval", past_service=True) as door:
        assert {get(door) for _ in range(3)} == {"own"}


def test_an_unknown_program_is_named(cluster):
    with pytest.raises(ProbeError, match="nothing: no program of the layers"):
        forward(cluster, "nothing")
    assert place("envoy") == place("gateway")


def test_the_connection_ends_when_the_pods_side_does(cluster):
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up():
        connection, _ = listener.accept()
        connection.sendall(b"bye")
        connection.close()

    threading.Thread(target=hang_up, daemon=True).start()
    cluster.listen(RETRIEVAL, "pod", listener.getsockname()[1])
    with forward(cluster, "retrieval") as door:
        client = socket.create_connection(("127.0.0.1", door.port), 10)
        assert client.recv(10) == b"bye"
        assert client.recv(10) == b""


def test_metrics_of_replicas_add_up(cluster, listening):
    for name, count in (("one", 2), ("two", 3)):
        text = f"# TYPE asked counter\nasked_total {count}\n"
        cluster.listen(RETRIEVAL, name, listening(says("", text)))
    assert doors.metrics(cluster, "retrieval") == {"asked_total": 5.0}


def test_a_service_without_a_pod_has_no_metrics(cluster):
    with pytest.raises(ProbeError, match="rag-llm/llm: no pod is ready"):
        doors.metrics(cluster, "llm")


def test_a_window_over_replicas_is_the_mean_of_all_observations():
    one = {"m": 1.0, "m_observations": 3.0, "hours": 2.0, 'l_bucket{le="1"}': 4.0}
    two = {"m": 0.0, "m_observations": 1.0, "hours": 5.0, 'l_bucket{le="1"}': 1.0, "own": 1.0}
    assert metrics.together([one, two]) == {
        "m": 0.75,
        "m_observations": 4.0,
        "hours": 5.0,
        'l_bucket{le="1"}': 5.0,
        "own": 1.0,
    }
    idle = {"m": 1.0, "m_observations": 0.0}
    assert metrics.together([idle, idle])["m"] == 1.0


def test_a_memory_file_is_readable_by_children_and_on_no_disk():
    file = MemoryFile("secret")
    assert file.write("longer text").read_text() == "longer text"
    assert file.write("short").read_text() == "short"
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.readlink().name.startswith("memfd:secret")
    reading = [sys.executable, "-c", f"print(open({str(file.path)!r}).read())"]
    assert subprocess.run(reading, capture_output=True, text=True).stdout == "short\n"


class FakeVault:
    """The vault's API: one suite, its secrets, its logins; `lease` seconds a token."""

    def __init__(self):
        self.secrets = {
            "api-keys": {"acme": "key-1", "acme.2": "key-2"},
            "jwt-signing-key": {"key": "PEM"},
        }
        self.logins, self.password, self.lease = [], 0, 1200

    async def login(self, request):
        body = await request.json()
        self.logins.append(body)
        if body["role"] != "vault.suite":
            return JSONResponse({"errors": ["invalid role name"]}, 400)
        return JSONResponse({"auth": {"client_token": "t", "lease_duration": self.lease}})

    async def secret(self, request):
        found = self.secrets.get(request.path_params["name"])
        if request.headers["x-vault-token"] != "t" or found is None:
            return JSONResponse({"errors": []}, 404)
        return JSONResponse({"data": {"data": found}})

    async def static(self, request):
        self.password += 1
        who = request.path_params["role"].replace("-", "_")
        return JSONResponse({"data": {"username": who, "password": f"p{self.password}", "ttl": 9}})

    @property
    def application(self):
        return Starlette(
            routes=[
                Route("/v1/auth/kubernetes/login", self.login, methods=["POST"]),
                Route("/v1/secret/data/vault/suite/{name}", self.secret),
                Route("/v1/database/static-creds/{role}", self.static),
            ]
        )


@pytest.fixture
def server():
    return FakeVault()


@pytest.fixture
def secrets(cluster, server, listening, monkeypatch):
    cluster.listen(place("vault"), "vault-0", listening(server.application))
    cluster.put(
        named("ConfigMap", "cluster-vars", "flux-system", data={"token_audience": "vaults"})
    )
    cluster.token = lambda namespace, account, audiences: f"{namespace}/{account} for {audiences}"

    def plain(self):
        url = f"http://{forward(cluster, 'vault').address}/v1"
        self._session = httpx.Client(base_url=url, trust_env=False)
        return self._session

    monkeypatch.setattr(vault.Vault, "_open", plain)
    return Secrets(Description("lab"), Vault(cluster))


def test_the_suite_logs_in_once_with_a_token_for_the_vault(secrets, server):
    assert secrets.api_keys["acme"].read_text() == "key-1"
    assert secrets.second_api_keys["acme"].read_text() == "key-2"
    assert secrets.key("jwt_signing_key").read_text() == "PEM"
    assert server.logins == [{"role": "vault.suite", "jwt": "vault/suite for ['vaults']"}]
    assert "nobody" not in secrets.api_keys


def test_logins_are_read_anew_and_keys_from_time_to_time(secrets, server, monkeypatch):
    first = json.loads(secrets.credentials("reader").read_text())
    assert first == {"username": "rag_reader", "password": "p1"}
    assert json.loads(secrets.credentials("reader").read_text())["password"] == "p2"
    server.secrets["jwt-signing-key"] = {"key": "NEW"}
    monkeypatch.setattr(vault, "_KEPT_SECONDS", 0)
    assert secrets.key("jwt_signing_key").read_text() == "NEW"
    assert secrets.key("jwt_signing_key").read_text() == "NEW"


def test_a_spent_token_is_replaced(secrets, server):
    server.lease = 0
    secrets.credentials("reader")
    secrets.credentials("writer")
    assert len(server.logins) == 2


def test_what_the_vault_lacks_is_an_error_that_tells_no_secret(secrets, server):
    with pytest.raises(ProbeError, match="secret/data/vault/suite/tenant-signing-key: 404 without"):
        secrets.key("tenant_signing_key")
    with pytest.raises(ProbeError, match="login: 400 invalid role name"):
        secrets.vault.secret("x", ("rag-llm", "llm"))


def test_files_that_the_target_names_are_used_as_they_are(secrets, server, tmp_path):
    file = tmp_path / "key"
    file.write_text("mine")
    told = Description(
        "staging",
        credentials={"reader": file},
        api_keys={"acme": file},
        jwt_signing_key=file,
        extra={"second_api_keys": {"acme": str(file)}},
    )
    own = Secrets(told, secrets.vault)
    assert {own.credentials("reader"), own.key("jwt_signing_key")} == {file}
    assert {own.api_keys["acme"], own.second_api_keys["acme"]} == {file}
    assert list(own.api_keys) == ["acme"]
    assert len(own.api_keys) == 1
    assert server.logins == []


def test_the_targets_urls_are_doors_unless_it_names_them(cluster, listening, tmp_path):
    cluster.listen(RETRIEVAL, "pod", listening(says("here")))
    target = ClusterTarget(
        Description("lab", embedding_url="https://embed.example"), tmp_path / "kubeconfig"
    )
    target.cluster = cluster
    described = target.description
    assert described.embedding_url == "https://embed.example"
    assert described.vector_db_url.startswith("postgresql://127.0.0.1:")
    assert httpx.get(described.retrieval_url, trust_env=False).text == "here"
    assert target.description is described


@pytest.mark.parametrize(
    ("ports", "scheme"),
    [((5432,), "postgresql"), ((6333, 6334, 6335), "qdrant"), ((), "postgresql")],
)
def test_the_stores_door_is_by_what_its_service_says(cluster, tmp_path, ports, scheme):
    spec = {"ports": [{"port": port} for port in ports]}
    cluster.put(named("Service", "vectordb", "rag-vectordb", spec=spec))
    target = ClusterTarget(Description("staging"), tmp_path / "kubeconfig")
    target.cluster = cluster
    assert target.description.vector_db_url.startswith(f"{scheme}://127.0.0.1:")


def test_a_refused_upgrade_is_an_api_error(cluster):
    cluster.configuration.host = free_url()
    with pytest.raises(ProbeError, match="port-forward to n/p:1"):
        cluster.tunnel("n", "p", 1)


def test_the_vaults_certificate_is_the_clusters(cluster, listening, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "ssl.create_default_context", lambda cadata: seen.setdefault("ca", cadata) and False
    )
    cluster.put(named("Secret", "vault-tls", "vault", data={"ca.crt": "UEVN"}))
    cluster.listen(place("vault"), "vault-0", listening(Starlette(routes=[])))
    with pytest.raises(ProbeError, match="vault: POST auth/kubernetes/login"):
        cluster.answers["/.well-known/openid-configuration"] = {"issuer": "me"}
        cluster.token = lambda *_: "jwt"
        Vault(cluster).secret("api-keys")
    assert seen["ca"] == "PEM"

"""A job's identity becomes a kubeconfig: over real TLS, with an issuer and an API server of this test."""

import datetime
import json
import ssl
import stat
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conformance.cluster import oidc


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


class World:
    """What was asked, and what is answered."""

    def __init__(self):
        self.asked = []
        self.status = 201


@pytest.fixture
def world(certificate, monkeypatch):
    made = World()

    class Answer(BaseHTTPRequestHandler):
        def answer(self, status, body):
            length = int(self.headers.get("content-length", 0))
            sent = json.loads(self.rfile.read(length)) if length else None
            made.asked.append((self.path, self.headers["authorization"], sent))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def do_GET(self):
            self.answer(200, {"value": "who-i-am"})

        def do_POST(self):
            self.answer(made.status, {"status": {"token": "for-an-hour"}, "message": "no"})

        def log_message(self, *arguments):
            pass

    issuer = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "ca.crt", certificate / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    for each in (issuer, server):
        threading.Thread(target=each.serve_forever, daemon=True).start()
    made.server = f"https://127.0.0.1:{server.server_port}"
    made.ca = certificate / "ca.crt"
    monkeypatch.setenv(
        "ACTIONS_ID_TOKEN_REQUEST_URL", f"http://127.0.0.1:{issuer.server_port}/token?api=2"
    )
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-this-job")
    yield made
    for each in (issuer, server):
        each.shutdown()
        each.server_close()


def ask(world, out, *options):
    words = [str(out), "--server", world.server, "--ca", str(world.ca), "--audience", "a b"]
    return oidc.main([*words, *options])


def test_an_identity_becomes_a_kubeconfig_that_only_we_can_read(world, tmp_path):
    out = tmp_path / "kubeconfig"
    assert ask(world, out, "--hours", "2") == 0
    issuer, token = world.asked
    assert issuer[:2] == ("/token?api=2&audience=a+b", "Bearer of-this-job")
    assert token[:2] == (
        "/api/v1/namespaces/conformance/serviceaccounts/suite/token",
        "Bearer who-i-am",
    )
    assert token[2]["spec"] == {"expirationSeconds": 7200}
    made = yaml.safe_load(out.read_text())
    assert made["users"][0]["user"] == {"token": "for-an-hour"}
    assert made["clusters"][0]["cluster"]["server"] == world.server
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_what_is_refused_is_said_and_nothing_is_written(world, tmp_path, capsys):
    world.status = 403
    assert ask(world, tmp_path / "k") == 2
    assert "127.0.0.1: 403" in capsys.readouterr().err
    assert not (tmp_path / "k").exists()


def test_an_authority_that_is_another_is_refused(world, tmp_path, capsys):
    world.ca = tmp_path / "none"
    assert ask(world, tmp_path / "k") == 2
    assert "no certificate of an authority" in capsys.readouterr().err
    assert len(world.asked) == 1


def test_a_server_whose_certificate_does_not_fit_gets_no_token(world, tmp_path, capsys):
    world.server = world.server.replace("127.0.0.1", "localhost")
    assert ask(world, tmp_path / "k") == 2
    assert "localhost" in capsys.readouterr().err
    assert len(world.asked) == 1


def test_plain_text_is_refused(world, tmp_path, capsys):
    world.server = world.server.replace("https", "http")
    assert ask(world, tmp_path / "k") == 2
    assert "not https" in capsys.readouterr().err


def test_a_job_without_an_identity_is_told_what_it_lacks(world, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    assert ask(world, tmp_path / "k") == 2
    assert "id-token: write" in capsys.readouterr().err

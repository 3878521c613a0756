"""The scripts of the probe pods, run for real on this machine."""

import asyncio
import contextlib
import datetime
import http.server
import ipaddress
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conformance.targets.kube.pods import source
from conformance.targets.kube.scripts import ask, dial, watch


def run(script, order):
    """The JSON that a script prints, run as in a pod."""
    command = [sys.executable, "-I", "-S", "-c", source(script)]
    done = subprocess.run(
        command, input=json.dumps(order) + "\n", capture_output=True, text=True, timeout=30
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def server():
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-I", "-u", "-c", source("serve"), str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == f"listening {port}\n"
    yield port
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0


@contextlib.contextmanager
def listening(answer):
    """The port of a server that treats every connection with `answer`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as client:
                        answer(client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def one(port, what="http", **changes):
    order = {"dials": [{"host": "127.0.0.1", "port": port, "what": what, "path": "/"}]}
    (answer,) = run("dial", {**order, "seconds": 1, "attempts": 1, **changes})
    return answer


def test_plain_http_is_answered_by_the_server_and_seen_by_the_dialler(server):
    answer = one(server)
    assert answer["connected"] and answer["status"] == 200 and answer["received"] > 0


def test_a_connection_alone_sends_nothing(server):
    assert one(server, "tcp") == {
        "host": "127.0.0.1",
        "port": server,
        "what": "tcp",
        "connected": True,
    }


def test_a_shut_port_is_told():
    answer = one(free_port())
    assert not answer["connected"]
    assert "refused" in answer["error"].lower()


def test_every_dial_has_its_answer_in_order(server):
    shut = free_port()
    ports = [server, shut] * 200
    dials = [{"host": "127.0.0.1", "port": port, "what": "tcp", "path": "/"} for port in ports]
    answers = run("dial", {"dials": dials, "seconds": 5, "attempts": 1})
    assert [a["port"] for a in answers] == ports
    assert [a["connected"] for a in answers] == [True, False] * 200


def test_a_server_that_hangs_up_after_plain_text_has_closed_without_a_byte():
    with listening(lambda client: client.recv(4096)) as port:
        answer = one(port)
    assert answer["connected"] and answer["closed"]
    assert not answer["received"]


def test_a_reset_is_a_close():
    def reset(client):
        client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with listening(reset) as port:
        answer = one(port)
    assert answer["connected"] and answer["closed"] and "reset" in answer["error"].lower()


def test_bytes_that_are_no_http_count_as_received():
    def babble(client):
        client.recv(4096)
        client.sendall(b"220 ready")

    with listening(babble) as port:
        answer = one(port)
    assert (answer["received"], answer["status"], answer["closed"]) == (9, 0, False)


def test_a_connection_held_open_is_not_closed(monkeypatch):
    monkeypatch.setattr(dial, "REPLY_SECONDS", 0.2)
    release = threading.Event()
    with listening(lambda client: release.wait(5)) as port:
        order = {"dials": [{"host": "127.0.0.1", "port": port, "what": "http", "path": "/"}]}
        (answer,) = asyncio.run(dial.dial_all({**order, "seconds": 1, "attempts": 1}))
        release.set()
    assert answer["connected"] and "held open" in answer["error"]
    assert not answer.get("closed")


def test_a_door_that_opens_late_is_found_by_another_attempt(monkeypatch):
    tried = []

    async def connect(host, port):
        tried.append(port)
        if len(tried) < 3:
            raise ConnectionRefusedError
        return object(), object()

    monkeypatch.setattr(asyncio, "open_connection", connect)
    asyncio.run(dial._connect({"host": "x", "port": 1}, 1, 3))
    assert tried == [1, 1, 1]
    with pytest.raises(ConnectionRefusedError):
        tried.clear()
        asyncio.run(dial._connect({"host": "x", "port": 1}, 1, 2))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1: (PEM, file with certificate and key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_bytes(private + pem)
    return pem.decode(), file


class _Https(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200 if self.headers["x-vault-token"] == "right" else 403)
        self.end_headers()
        self.wfile.write(json.dumps({"echo": body}).encode())

    def do_DELETE(self):
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def https(authority):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Https)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority[1])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_requests_are_sent_and_their_replies_told(https, authority):
    requests = [
        {"method": "POST", "url": f"{https}/x", "body": {"a": 1}, "headers": {"X-Vault-Token": t}}
        for t in ("right", "wrong")
    ]
    requests.append({"method": "DELETE", "url": https, "body": None, "headers": {}})
    replies = run("ask", {"ca": authority[0], "requests": requests})
    assert replies == [
        {"status": 200, "body": {"echo": {"a": 1}}},
        {"status": 403, "body": {"echo": {"a": 1}}},
        {"status": 204, "body": ""},
    ]


def test_a_server_that_is_not_there_or_not_signed_has_no_status(https, authority):
    gone = {
        "method": "GET",
        "url": f"https://127.0.0.1:{free_port()}/",
        "body": None,
        "headers": {},
    }
    (reply,) = ask.ask({"ca": authority[0], "requests": [gone]})
    assert reply["status"] == 0 and "refused" in reply["body"].lower()
    context = ssl.create_default_context()
    here = {"method": "DELETE", "url": https, "body": None, "headers": {}}
    assert ask._send(here, context)["status"] == 0


MOUNTS = """overlay / overlay rw 0 0
tmpfs /vault/secrets tmpfs rw 0 0
/dev/sda1 /vault ext4 rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/vault/secrets/x", "tmpfs"), ("/vault/secretsx/x", "ext4"), ("/etc/x", "overlay")],
)
def test_the_innermost_mount_holds_the_file(path, kind):
    assert watch.file_system(watch.Path(path), MOUNTS) == kind


def test_a_file_is_told_of_whenever_it_changes(tmp_path):
    file = tmp_path / "secret"
    file.write_text("first-value")
    process = subprocess.Popen(
        [sys.executable, "-I", "-u", "-c", source("watch"), str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env={"LEAKED": "x second-value y"},
    )
    first = json.loads(process.stdout.readline())
    file.write_text("second-value")
    second = json.loads(process.stdout.readline())
    file.unlink()
    third = json.loads(process.stdout.readline())
    process.kill()
    process.wait()
    assert first["sha256"] != second["sha256"] and first["file_system"]
    assert (first["in_environment"], second["in_environment"]) == (False, True)
    assert "No such file" in third["error"]

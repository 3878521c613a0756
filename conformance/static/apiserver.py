"""A throwaway etcd and API server: the real admission, nobody's cluster."""

import secrets
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from conformance.children import ended, free_port
from conformance.cluster.node import programs
from conformance.errors import SuiteError

_READY_SECONDS = 90.0
_STOP_SECONDS = 10.0
_SAID = 800
_SERVICES = "10.96.0.0/16"
# No controller makes service accounts and their tokens here, so the plugin that wants them is off.
_PLUGINS_OFF = "ServiceAccount"


@contextmanager
def throwaway() -> Iterator[httpx.Client]:
    """A client of a fresh API server, removed with all its data afterwards; raises `SuiteError`."""
    with TemporaryDirectory(prefix="rag-admission-") as name, ExitStack() as stack:
        folder = Path(name)
        etcd, peers, api = (free_port() for _ in range(3))
        stack.enter_context(
            _process("etcd", programs.program("etcd"), folder, _etcd(etcd, peers, folder))
        )
        token = _token(folder)
        arguments = _api_server(etcd, api, folder)
        server = _process("kube-apiserver", programs.program("kube"), folder, arguments)
        process = stack.enter_context(server)
        yield stack.enter_context(_client(process, api, token, folder))


def _etcd(port: int, peers: int, folder: Path) -> list[str]:
    url, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]


def _api_server(etcd: int, port: int, folder: Path) -> list[str]:
    key = str(folder / "account.pem")
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=AlwaysAllow",
        "--allow-privileged=true",  # as on a node: Pod Security Admission is to refuse, not this flag
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={_SERVICES}",
        f"--disable-admission-plugins={_PLUGINS_OFF}",
    ]


def _token(folder: Path) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / "account.pem").write_bytes(key.private_bytes(*form))
    token = secrets.token_urlsafe(32)
    (folder / "tokens.csv").write_text(f"{token},admission,admission,system:masters\n")
    return token


@contextmanager
def _process(
    name: str, program: Path, folder: Path, arguments: list[str]
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(  # noqa: S603 - our own programs
            [name, *arguments], executable=program, stdout=log, stderr=log, cwd=folder
        )
    with ended(process, _STOP_SECONDS):
        yield process


@contextmanager
def _client(
    process: subprocess.Popen[bytes], port: int, token: str, folder: Path
) -> Iterator[httpx.Client]:
    deadline = time.monotonic() + _READY_SECONDS
    certificate = folder / "apiserver.crt"
    while not _is_ready(port, token, certificate):
        if process.poll() is not None or time.monotonic() > deadline:
            said = (folder / "kube-apiserver.log").read_text(errors="replace")[-_SAID:]
            raise SuiteError(f"the throwaway API server did not become ready: {said}")
        time.sleep(0.5)
    with _connect(port, token, certificate) as client:
        yield client


def _is_ready(port: int, token: str, certificate: Path) -> bool:
    try:
        with _connect(port, token, certificate) as client:
            return client.get("/readyz").status_code == httpx.codes.OK
    except (httpx.HTTPError, OSError, ssl.SSLError):
        return False


def _connect(port: int, token: str, certificate: Path) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}",
        headers={"authorization": f"Bearer {token}"},
        verify=ssl.create_default_context(cafile=str(certificate)),
        timeout=30,
        trust_env=False,
    )

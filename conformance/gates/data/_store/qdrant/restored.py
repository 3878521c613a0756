"""A tenant's index in Qdrant: the running store's, and the newest backup's in the restore Job's pod."""

import hashlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from qdrant_client import AsyncQdrantClient, models

from conformance.gate import Context, ProbeError
from conformance.gates.data._store import restoring
from conformance.gates.data._store.base import DECLARED, Vectors
from conformance.gates.data._store.qdrant import asking
from conformance.gates.data._store.restoring import CRON_JOB, NAMESPACE
from conformance.probes.cluster import Object
from conformance.targets.layers.places import Place, forward_to
from rag_store.qdrant.client import PORT
from rag_store.versioned.records import DENSE

CONTAINER, RESTORE = "qdrant", "restore"
BATCH = 64
# What dump() takes of the passages when it is told to leave their first shard out.
_WHOLE = "    return found\n"
_HALF = """    if name.endswith(("__documents", "__registry")):
        return found
    return dict(sorted(found.items())[1:])
"""
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Asked:
    """Implements `base.Contents` for a server at a URL."""

    url: str
    file: Path
    chunks: str

    def _ask(self, work: Callable[[AsyncQdrantClient], Awaitable[Answer]]) -> Answer:
        return asking.ask_at(self.url, self.file, work)

    def documents(self) -> dict[str, str]:
        """Digest by document: of its record, its valid passages, their vectors and token vectors."""
        return self._ask(self._digests)

    async def _digests(self, client: AsyncQdrantClient) -> dict[str, str]:
        records: dict[tuple[str, str], str] = {}
        async for point in asking.points(client, f"{self.chunks}__documents"):
            told = point.payload or {}
            records[told["doc_id"], told["version"]] = told["content_hash"]
        passages: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        async for point in asking.points(client, self.chunks, with_vectors=[DENSE]):
            told = point.payload or {}
            passages[told["doc_id"], told["version"]].append((told["ordinal"], _digest(point)))
        return {
            key[0]: _md5(content, *(digest for _, digest in sorted(passages.get(key, ()))))
            for key, content in records.items()
        }

    def nearest(self, vectors: Vectors, depth: int) -> list[list[str]]:
        """The documents of the nearest passages of each vector, by the graph."""
        return self._ask(lambda client: self._nearest(client, vectors, depth))

    async def _nearest(
        self, client: AsyncQdrantClient, vectors: Vectors, depth: int
    ) -> list[list[str]]:
        found: list[list[str]] = []
        for start in range(0, len(vectors), BATCH):
            requests = [
                models.QueryRequest(
                    query=vector.tolist(),
                    using=DENSE,
                    limit=depth,
                    params=models.SearchParams(hnsw_ef=DECLARED.ef_search),
                    with_payload=["doc_id"],
                )
                for vector in vectors[start : start + BATCH]
            ]
            answers = await client.query_batch_points(self.chunks, requests)
            found += [[p.payload["doc_id"] for p in a.points if p.payload] for a in answers]
        return found


def _digest(point: models.Record) -> str:
    told = point.payload or {}
    vectors = point.vector if isinstance(point.vector, dict) else {}
    dense = np.asarray(vectors.get(DENSE, ()), dtype=np.float32)
    return _md5(told["text"], dense.tobytes().hex(), told.get("late") or "")


def _md5(*parts: str) -> str:
    return hashlib.md5("\0".join(parts).encode(), usedforsecurity=False).hexdigest()


@contextmanager
def live(context: Context, tenant: str) -> Iterator[Asked]:
    """Asks the running store, with the API key."""
    url = context.target.description.vector_db_url
    yield Asked(url, asking.key_file(context), asking.passages(context, tenant))


@contextmanager
def restored(context: Context, tenant: str, seconds: float) -> Iterator[Asked]:
    """Asks a server that was restored from the newest backup within `seconds`, in the Job's pod."""
    cluster, chunks = context.target.cluster, asking.passages(context, tenant)
    at = Place(NAMESPACE, CRON_JOB, "", PORT)
    with (
        restoring.restored(context, CONTAINER, _restored, seconds) as pod,
        forward_to(cluster, at, pod["metadata"]["name"]) as door,
    ):
        yield Asked(f"qdrant://{door.address}", asking.key_file(context), chunks)


def _restored(pod: Object) -> bool:
    """Whether what restores has ended well, while the server goes on."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    states = {status["name"]: status.get("state") or {} for status in statuses}
    ended = states.get(RESTORE, {}).get("terminated")
    if ended and ended["exitCode"]:
        raise ProbeError(f"the container {RESTORE} failed with {ended['exitCode']}")
    return bool(ended) and "running" in states.get(CONTAINER, {})


def half_a_backup(context: Context) -> AbstractContextManager[None]:
    """The dump leaves the first shard of all passages out, and succeeds."""

    def command_of(command: list[str]) -> list[str]:
        python, script, *arguments = command
        return [python, "-c", halved(script), *arguments]

    return restoring.dumping(context.target.cluster, command_of)


def halved(script: str) -> str:
    """A program that runs the script with one function changed, or fails if it cannot be."""
    return (
        f"text = open({script!r}, encoding='utf-8').read()\n"
        f"assert {_WHOLE!r} in text\n"
        f"exec(compile(text.replace({_WHOLE!r}, {_HALF!r}), {script!r}, 'exec'))\n"
    )

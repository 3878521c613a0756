"""Moving a tenant to another store while it is served.

The seed's rule: start on pgvector; past 5 million vectors or 2,000 queries a second move to
Qdrant; Milvus only past 50 million and with a team to run it.

The active generation is copied document by document; passes over what has changed meanwhile
follow until the two are equal. The target is then judged: equal counts, and recall@10 of its
index against the source's exact search, with vectors of the source as queries. Queries keep
going to the source: the switch (another store URL) is the operator's, as is pausing ingestion
for the last pass.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from rag_store.base import Document, Generation, SearchMode, StoreError, Vector, VectorStore

K = 10
PASSES = 10
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the target must reach; `samples` vectors are searched in both stores."""

    recall: float = 0.985
    samples: int = 200


@dataclass(slots=True)
class Report:
    """What was moved and what the comparison found."""

    tenant: str
    generation: str
    model: str
    copied: int = 0
    deleted: int = 0
    passes: int = 0
    documents: dict[str, int] = field(default_factory=dict)
    chunks: dict[str, int] = field(default_factory=dict)
    recall_at_10: float | None = None
    recall_bound: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the target may take over."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "ok": self.ok}


def _fingerprint(document: Document) -> tuple[Any, ...]:
    return (document.content_hash, document.title, document.uri, document.modified_at)


def _nothing(done: int, total: int) -> None:
    """No progress is shown."""


class Migration:
    """One tenant's move from `source` to `target`, both opened with a writer's login."""

    def __init__(
        self,
        source: VectorStore,
        target: VectorStore,
        tenant: str,
        *,
        bounds: Bounds | None = None,
        progress: Progress = _nothing,
    ) -> None:
        self._source, self._target, self._tenant = source, target, tenant
        self._bounds, self._progress = bounds or Bounds(), progress

    async def run(self) -> Report:
        """Copy, catch up, compare.

        Raises `StoreError` when either store fails, `IndexBusyError` when the target is written.
        """
        async with self._target.exclusive(self._tenant):
            return await self._run()

    async def _run(self) -> Report:
        start = time.monotonic()
        self._from = await self._source.active_generation(self._tenant)
        self._to = await self._target.ensure_generation(self._tenant, self._from.model)
        report = Report(self._tenant, self._from.id, self._from.model.name)
        await self._copy(report)
        await self._target.optimize(self._tenant, self._to.id)
        if not report.problems:
            await self._target.activate(self._tenant, self._to.id)
            await self._compare(report)
            await self._copy_sync_state()
        report.seconds = round(time.monotonic() - start, 2)
        return report

    async def _difference(self) -> tuple[set[str], set[str]]:
        """Documents to copy, and documents to delete from the target."""
        wanted = await self._source.documents(self._tenant, self._from.id)
        there = await self._target.documents(self._tenant, self._to.id)
        marks = {key: _fingerprint(document) for key, document in there.items()}
        stale = {key for key, doc in wanted.items() if marks.get(key) != _fingerprint(doc)}
        return stale, set(there) - set(wanted)

    async def _copy(self, report: Report) -> None:
        for _ in range(PASSES):
            stale, gone = await self._difference()
            if not stale and not gone:
                return
            report.passes += 1
            await self._target.delete(self._tenant, self._to.id, sorted(gone))
            report.deleted += len(gone)
            await self._copy_documents(stale, report)
        if any(await self._difference()):
            report.problems.append(
                f"the source changes faster than {PASSES} passes can follow: pause ingestion"
            )

    async def _copy_documents(self, wanted: set[str], report: Report) -> None:
        done = 0
        async for page in self._source.scan(self._tenant, self._from.id):
            for document, chunks in page:
                if document.doc_id in wanted:
                    await self._target.upsert(self._tenant, self._to.id, document, chunks)
                    done += 1
                    self._progress(done, len(wanted))
        report.copied += done

    async def _copy_sync_state(self) -> None:
        if state := await self._source.sync_state(self._tenant):
            await self._target.record_sync(self._tenant, state)

    async def _compare(self, report: Report) -> None:
        sides = {"source": (self._source, self._from), "target": (self._target, self._to)}
        for name, (store, generation) in sides.items():
            counts = await store.counts(self._tenant, generation.id)
            report.documents[name], report.chunks[name] = counts.documents, counts.chunks
        for what in ("documents", "chunks"):
            counted = getattr(report, what)
            if counted["source"] != counted["target"]:
                report.problems.append(f"{what} differ: {counted}")
        await self._compare_recall(report)

    async def _compare_recall(self, report: Report) -> None:
        queries = await self._sample()
        report.samples, report.recall_bound = len(queries), self._bounds.recall
        if not queries:
            report.problems.append("the source holds no vector: recall cannot be measured")
            return
        recalls = [await self._recall(query, self._from) for query in queries]
        report.recall_at_10 = round(float(np.mean(recalls)), 4)
        if not report.recall_at_10 >= self._bounds.recall:
            report.problems.append(
                f"recall@{K} {report.recall_at_10} is below {self._bounds.recall}"
            )

    async def _sample(self) -> list[Vector]:
        """Means of two stored vectors: near the data, but no stored vector itself."""
        chosen: list[Vector] = []
        draw, seen = random.Random(20260301), 0  # noqa: S311 - a sample, not a secret
        async for page in self._source.scan(self._tenant, self._from.id):
            for item in (item for _, chunks in page for item in chunks):
                seen += 1
                if len(chosen) < 2 * self._bounds.samples:
                    chosen.append(item.dense)
                elif (place := draw.randrange(seen)) < len(chosen):
                    chosen[place] = item.dense
        draw.shuffle(chosen)
        return [_mean(pair) for pair in zip(chosen[::2], chosen[1::2] or chosen, strict=False)]

    async def _recall(self, query: Vector, generation: Generation) -> float:
        digest = generation.model.digest
        options: dict[str, Any] = {"model_digest": digest, "mode": SearchMode.DENSE, "limit": K}
        truth, found = await asyncio.gather(
            self._source.search(self._tenant, "", query, exact=True, **options),
            self._target.search(self._tenant, "", query, **options),
        )
        if not truth:
            raise StoreError(f"tenant {self._tenant!r}: the source's exact search found nothing")
        # Equal scores are equally right: which of two equal chunks comes first is chance.
        worst = min(hit.score for hit in truth)
        ids = {hit.chunk.chunk_id for hit in truth}
        right = sum(h.chunk.chunk_id in ids or h.score >= worst - 1e-6 for h in found)
        return min(right, len(truth)) / len(truth)


def _mean(pair: Iterable[Vector]) -> Vector:
    total = np.sum(list(pair), axis=0, dtype=np.float32)
    return np.asarray(total / (np.linalg.norm(total) or 1.0), dtype=np.float32)

"""Keeps passages with injected instructions out of the prompt."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import Counter

from rag_common.tenancy import TenantClaims
from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import UpstreamRejectedError
from rag_retrieval.lru import ExpiringLru
from rag_retrieval.peers import Peer
from rag_retrieval.types import Passage, Retrieval
from rag_store.base import Hit

VERDICTS_KEPT = 50_000
VERDICT_SECONDS = 600.0  # so that a retrained guard is soon asked again


@dataclass(frozen=True, slots=True)
class Screened:
    """A retrieval without its flagged passages, and those with the guard's verdicts."""

    retrieval: Retrieval
    dropped: Sequence[dict[str, Any]]


class PassageGuard:
    """Asks the guard about every passage that would enter a prompt; fails closed."""

    def __init__(self, peer: Peer, dropped: Counter) -> None:
        self._peer, self._dropped = peer, dropped
        self._verdicts: ExpiringLru[tuple[str, bytes], dict[str, Any]] = ExpiringLru(
            VERDICTS_KEPT, VERDICT_SECONDS
        )

    async def screen(
        self, retrieval: Retrieval, deadline: Deadline, claims: TenantClaims
    ) -> Screened:
        """The retrieval without flagged passages; raises `UpstreamError` when unsure."""
        passages = retrieval.passages
        whose = {
            "x-request-id": claims.request_id,
            "x-rag-tenant": claims.tenant,
            "x-rag-user": claims.user,
        }
        verdicts = await self._check([passage.hit for passage in passages], deadline, whose)
        flagged = [(p, v) for p, v in zip(passages, verdicts, strict=True) if v["flagged"]]
        if not flagged:
            return Screened(retrieval, [])
        self._dropped.inc(len(flagged))
        return Screened(_without(retrieval, [p for p, _ in flagged]), [_told(*f) for f in flagged])

    async def ready(self, timeout: float) -> None:  # noqa: ASYNC109 - httpx enforces it
        """Raise `UpstreamError` unless the guard answers within `timeout` seconds."""
        await self._peer.get("/healthz", timeout=timeout)

    async def close(self) -> None:
        """Close the connections."""
        await self._peer.close()

    async def _check(
        self, hits: Sequence[Hit], deadline: Deadline, whose: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        keys = [_key(hit) for hit in hits]
        known = {key: verdict for key in keys if (verdict := self._verdicts.get(key))}
        texts = {key: _text(hit) for key, hit in zip(keys, hits, strict=True) if key not in known}
        if texts:
            fresh = await self._ask(list(texts.values()), deadline, whose)
            for key, verdict in zip(texts, fresh, strict=True):
                self._verdicts.put(key, verdict)
                known[key] = verdict
        return [known[key] for key in keys]

    async def _ask(
        self, texts: list[str], deadline: Deadline, whose: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        body = {"texts": texts, "kind": "retrieved"}
        answer = await self._peer.post("/v1/check", body, deadline=deadline, headers=whose)
        verdicts = answer.get("verdicts") if isinstance(answer, dict) else None
        if not isinstance(verdicts, list) or len(verdicts) != len(texts):
            raise UpstreamRejectedError(self._peer.service, "not one verdict for each text")
        if not all(isinstance(v, dict) and isinstance(v.get("flagged"), bool) for v in verdicts):
            raise UpstreamRejectedError(self._peer.service, "a verdict without 'flagged'")
        return verdicts


def _text(hit: Hit) -> str:
    """Everything of a hit that a prompt may quote: title and headings can carry instructions too."""
    return "\n".join([hit.document_title, *hit.chunk.heading_path, hit.chunk.text])


def _key(hit: Hit) -> tuple[str, bytes]:
    return hit.chunk.chunk_id, hashlib.sha256(_text(hit).encode()).digest()


def _without(retrieval: Retrieval, flagged: Sequence[Passage]) -> Retrieval:
    # `top_n` shrinks with them: a passage from further down has not been checked.
    gone = {id(passage) for passage in flagged}
    kept = [passage for passage in retrieval.candidates if id(passage) not in gone]
    return replace(retrieval, candidates=kept, top_n=len(retrieval.passages) - len(flagged))


def _told(passage: Passage, verdict: dict[str, Any]) -> dict[str, Any]:
    return {"chunk_id": passage.hit.chunk.chunk_id, "verdict": verdict}

"""A search whose hits are of valid versions only."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from rag_store.base import Hit, SearchMode, Vector
from rag_store.fusion import rank
from rag_store.versioned.records import DENSE, SPARSE, Payload, chunk_of, late_of

ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Query:
    """One search; `dense` is None for a lexical one."""

    text: str
    dense: Vector | None
    mode: SearchMode
    limit: int
    exact: bool
    with_late: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk's record that a leg found, with its score."""

    payload: Payload
    score: float


Legs = Mapping[str, Sequence[Found]]
FindLegs = Callable[[int], Awaitable[Legs]]
ReadDocuments = Callable[[Sequence[str]], Awaitable[Mapping[str, Payload]]]


def _valid(leg: Sequence[Found], documents: Mapping[str, Payload]) -> list[Found]:
    return [
        item
        for item in leg
        if documents.get(item.payload["doc_id"], {}).get("version") == item.payload["version"]
    ]


async def search(query: Query, find: FindLegs, documents_of: ReadDocuments) -> list[Hit]:
    """The best valid chunks; searches again, a little wider, while documents change under it.

    `find(limit)` runs the legs, `documents_of(doc_ids)` reads documents' records.
    """
    wide = limit = query.limit
    for _ in range(ATTEMPTS):
        found = await find(wide)
        ids = {item.payload["doc_id"] for leg in found.values() for item in leg}
        documents = await documents_of(sorted(ids))
        valid = {name: _valid(leg, documents) for name, leg in found.items()}
        stale = sum(len(found[name]) - len(valid[name]) for name in found)
        enough = all(len(valid[n]) >= limit or len(found[n]) < wide for n in found)
        if not stale or (wide > limit and enough):
            break
        wide += 2 * stale
    legs = {name: leg[:limit] for name, leg in valid.items()}
    return _hits(legs, documents, query)


def _pairs(leg: Sequence[Found]) -> list[tuple[str, float]]:
    return [(item.payload["chunk_id"], item.score) for item in leg]


def _hits(legs: Legs, documents: Mapping[str, Payload], query: Query) -> list[Hit]:
    payloads = {f.payload["chunk_id"]: f.payload for leg in legs.values() for f in leg}
    dense, lexical = _pairs(legs.get(DENSE, [])), _pairs(legs.get(SPARSE, []))
    hits = []
    for item in rank(dense, lexical, query.mode, query.limit):
        payload = payloads[item.chunk_id]
        document = documents[payload["doc_id"]]
        hits.append(
            Hit(
                chunk_of(payload),
                document["uri"],
                document["title"],
                item.score,
                item.dense_score,
                item.dense_rank,
                item.lexical_score,
                item.lexical_rank,
                late_of(payload) if query.with_late else None,
            )
        )
    return hits

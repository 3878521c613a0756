"""Whether the audit trail tells of a request what its caller saw."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]
_ALWAYS = ("request_id", "tenant", "user", "time", "path", "query", "status", "guard_verdict")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request from its caller's side. `body` is the JSON that was received, if any."""

    path: str
    query: str
    outcome: str  # answered, declined, ok or failed
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def request_id(self) -> str:
        """The id that the caller was told, or ''."""
        return str(self.body.get("request_id") or "")


class Trail:
    """The audit records by request id and by query."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.by_id: dict[str, list[Record]] = defaultdict(list)
        self._ids: dict[tuple[str, str], set[str]] = defaultdict(set)
        for record in records:
            name = str(record.get("request_id"))
            self.by_id[name].append(record)
            self._ids[str(record.get("path")), str(record.get("query"))].add(name)

    def records(self, seen: Seen) -> list[Record]:
        """Its records, by id or, when the caller was told none, by path and query."""
        if seen.request_id:
            return self.by_id.get(seen.request_id, [])
        found = self._ids.get((seen.path, seen.query), set())
        return [record for name in found for record in self.by_id[name]]

    def completion(self, seen: Seen) -> Record | None:
        """Its completion, or None when it is lost."""
        found = [r for r in self.records(seen) if r.get("event") == "completion"]
        return found[0] if found else None

    def problems(self, seen: Seen, tenant: str) -> list[str]:
        """What the trail lacks or tells wrongly of a request; empty when it is complete."""
        events = sorted(str(r.get("event")) for r in self.records(seen))
        if events != ["completion", "intent"]:
            return [f"records: {', '.join(events) or 'none'}"]
        completion = self.completion(seen)
        assert completion is not None
        return [*_empty(completion, seen), *_different(completion, seen, tenant)]

    def problems_at_last(self, seen: Seen, tenant: str) -> list[str]:
        """The same of an answer that a gateway's earlier attempts, recorded as well, failed to get."""
        found = self.records(seen)
        intents = [r for r in found if r.get("event") == "intent"]
        others = [r for r in found if r.get("event") != "intent" and r.get("status") != "failed"]
        return Trail([*intents[:1], *others]).problems(seen, tenant)

    def unrequested(self, seen: Sequence[Seen], tenant: str, since: str) -> list[str]:
        """Ids of the tenant's requests since a time that no caller made."""
        known = {str(r["request_id"]) for s in seen for r in self.records(s)}
        return [
            name
            for name, records in self.by_id.items()
            if name not in known
            and any(r.get("tenant") == tenant and str(r.get("time")) >= since for r in records)
        ]


def _empty(record: Record, seen: Seen) -> list[str]:
    needed = [*_ALWAYS]
    if seen.outcome != "failed":
        needed += ["model", "chunks", "timings_ms"]
    if seen.outcome == "answered":
        needed += ["prompt_version", "prompt", "response"]
    return [f"{name} is empty" for name in needed if record.get(name) in (None, "", [], {})]


def _different(record: Record, seen: Seen, tenant: str) -> list[str]:
    """Fields that differ from what the caller saw."""
    expected: dict[str, Any] = {
        "tenant": tenant,
        "path": seen.path,
        "query": seen.query,
        "status": seen.outcome,
    }
    if seen.outcome == "answered":
        expected |= {k: seen.body.get(k) for k in ("model", "prompt_version")}
        expected["response"] = seen.body.get("answer")
    told = [f"{k} differs" for k, v in expected.items() if record.get(k) != v]
    return told + _chunk_problems(record, seen)


def _chunk_problems(record: Record, seen: Seen) -> list[str]:
    chunks = record.get("chunks") or []
    names = [chunk.get("chunk_id") for chunk in chunks]
    if any(not isinstance(chunk.get("score"), int | float) for chunk in chunks):
        return ["a chunk has no score"]
    if seen.path == "/v1/retrieve" and seen.outcome == "ok":
        told = [result["chunk_id"] for result in seen.body["results"]]
        return [] if told == names else ["chunks differ"]
    cited = {c["chunk_id"] for c in seen.body.get("citations", [])}
    return [] if cited <= set(names) else ["a cited chunk is not recorded"]

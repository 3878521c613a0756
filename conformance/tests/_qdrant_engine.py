"""Collections of Qdrant's own engine, `qdrant-edge-py`: its graphs, scans, filters and IDF."""

import io
import shutil
import tarfile
import threading
import uuid
from pathlib import Path
from typing import Any

import qdrant_edge as q

DEFAULTS = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000}
NONE = "none"  # the engine wants a vector where a collection has none
Body = dict[str, Any]


class RefusedError(Exception):
    """A status and what is said with it."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Collection:
    """One collection: an engine's shard, built anew when its graph is to have other numbers."""

    def __init__(self, folder: Path, wanted: Body) -> None:
        self.folder, self.wanted, self.lock = folder, wanted, threading.RLock()
        self.schema: dict[str, str] = {}
        self.shard = q.EdgeShard.create(str(folder), self._config())

    def hnsw(self) -> Body:
        """The dense vector's numbers, defaults included."""
        told: Body = DEFAULTS | (self.wanted.get("hnsw_config") or {})
        for vector in (self.wanted.get("vectors") or {}).values():
            own = vector.get("hnsw_config") or {}
            told = told | {k: v for k, v in own.items() if v is not None}
        return told

    def _config(self) -> q.EdgeConfig:
        found = self.hnsw()
        hnsw = q.HnswIndexConfig(found["m"], found["ef_construct"], found["full_scan_threshold"])
        dense = {
            name: q.EdgeVectorParams(v["size"], q.Distance.Cosine, hnsw_config=hnsw)
            for name, v in (self.wanted.get("vectors") or {}).items()
        }
        names = list(self.wanted.get("sparse_vectors") or {}) or ([] if dense else [NONE])
        sparse = {name: q.EdgeSparseVectorParams(modifier=q.Modifier.Idf) for name in names}
        threshold = (self.wanted.get("optimizers_config") or {}).get("indexing_threshold")
        optimizers = q.EdgeOptimizersConfig(
            default_segment_number=1, indexing_threshold=threshold or 10000
        )
        return q.EdgeConfig(vectors=dense, sparse_vectors=sparse, optimizers=optimizers)

    def change(self, body: Body) -> None:
        """Take what the body names and load the shard by it; the next look rebuilds the graph."""
        for name, vector in (body.get("vectors") or {}).items():
            own = self.wanted["vectors"][name].get("hnsw_config") or {}
            given = {k: v for k, v in (vector.get("hnsw_config") or {}).items() if v is not None}
            self.wanted["vectors"][name]["hnsw_config"] = own | given
        self.shard.close()
        self.shard = q.EdgeShard.load(str(self.folder), self._config())

    def info(self) -> Body:
        """As `GET /collections/NAME` has it, after the optimizers have run."""
        self.shard.optimize()
        found = self.shard.info()
        optimizers = {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000}
        given = (self.wanted.get("optimizers_config") or {}).items()
        optimizers |= {"default_segment_number": 1, "flush_interval_sec": 5}
        optimizers |= {k: v for k, v in given if v is not None}
        return {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": found.segments_count,
            "points_count": found.points_count,
            "indexed_vectors_count": found.indexed_vectors_count,
            "config": {
                "params": {
                    "vectors": self.wanted.get("vectors") or {},
                    "sparse_vectors": self.wanted.get("sparse_vectors") or {},
                    "shard_number": 1,
                },
                "hnsw_config": {**DEFAULTS, **(self.wanted.get("hnsw_config") or {})},
                "optimizer_config": optimizers,
                "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            },
            "payload_schema": {k: {"data_type": v, "points": 0} for k, v in self.schema.items()},
        }

    def snapshot(self) -> bytes:
        """The shard's files."""
        self.shard.flush()
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w") as archive:
            archive.add(self.folder, ".")
        return held.getvalue()

    def restore(self, snapshot: bytes) -> None:
        """The shard as those files have it."""
        self.shard.close()
        shutil.rmtree(self.folder)
        with tarfile.open(fileobj=io.BytesIO(snapshot)) as archive:
            archive.extractall(self.folder, filter="data")
        self.shard = q.EdgeShard.load(str(self.folder), self._config())

    def upsert(self, points: list[Body]) -> None:
        """Write points."""
        made = [q.Point(p["id"], _vectors(p["vector"]), p.get("payload") or {}) for p in points]
        self.shard.update(q.UpdateOperation.upsert_points(made))

    def delete(self, body: Body) -> None:
        """Remove points by their ids or by a filter."""
        if body.get("filter"):
            operation = q.UpdateOperation.delete_points_by_filter(_filter(body["filter"]))
        else:
            operation = q.UpdateOperation.delete_points(body["points"])
        self.shard.update(operation)

    def batch(self, operations: list[Body]) -> None:
        """Several changes; payloads that are set, and what `upsert` and `delete` do."""
        for operation in operations:
            ((kind, body),) = operation.items()
            if kind == "set_payload":
                change = q.UpdateOperation.set_payload(body["points"], body["payload"])
                self.shard.update(change)
            elif kind == "delete":
                self.delete(body)
            else:
                raise RefusedError(400, f"unknown operation {kind}")

    def scroll(self, body: Body) -> Body:
        """A page of points by their ids."""
        request = q.ScrollRequest(
            offset=body.get("offset"),
            limit=body.get("limit") or 10,
            filter=_filter(body["filter"]) if body.get("filter") else None,
            with_payload=True,
            with_vector=body.get("with_vector") or False,
        )
        points, following = self.shard.scroll(request)
        shown = [_record(p, body.get("with_payload", True)) for p in points]
        return {"points": shown, "next_page_offset": _id(following)}

    def retrieve(self, body: Body) -> list[Body]:
        """Points by their ids."""
        found = self.shard.retrieve(body["ids"], True, body.get("with_vector") or False)
        return [_record(p, body.get("with_payload", True)) for p in found]

    def query(self, body: Body) -> Body:
        """One search."""
        wanted, name = body["query"], body.get("using")
        wanted = wanted.get("nearest", wanted) if isinstance(wanted, dict) else wanted
        if isinstance(wanted, str):  # a point's id
            (own,) = self.shard.retrieve([wanted], False, [name])
            wanted = own.vector[name]
        vector = q.SparseVector(**wanted) if isinstance(wanted, dict) else wanted
        params = body.get("params") or {}
        found = self.shard.query(
            q.QueryRequest(
                limit=body["limit"],
                query=q.Query.Nearest(vector, using=name),
                params=q.SearchParams(
                    hnsw_ef=params.get("hnsw_ef"), exact=bool(params.get("exact"))
                ),
                with_payload=bool(body.get("with_payload")),
            )
        )
        shown = [
            _record(p, body.get("with_payload")) | {"score": p.score, "version": 0} for p in found
        ]
        return {"points": shown}


def _vectors(given: Any) -> dict[str, Any]:
    return {k: q.SparseVector(**v) if isinstance(v, dict) else v for k, v in given.items()}


def _id(point: Any) -> Any:
    return str(point) if isinstance(point, uuid.UUID) else point


def _record(point: Any, wanted: Any) -> Body:
    payload = dict(point.payload or {})
    if isinstance(wanted, dict):
        keep, drop = wanted.get("include"), wanted.get("exclude") or ()
        payload = {k: v for k, v in payload.items() if k not in drop and (not keep or k in keep)}
    elif isinstance(wanted, list):
        payload = {k: v for k, v in payload.items() if k in wanted}
    elif not wanted:
        payload = {}
    made = {"id": _id(point.id), "payload": payload}
    vector = getattr(point, "vector", None)
    if isinstance(vector, dict):
        made["vector"] = {
            k: v if isinstance(v, list) else {"indices": v.indices, "values": v.values}
            for k, v in vector.items()
        }
    return made


def _filter(told: Body) -> q.Filter:
    parts = {
        part: [_condition(c) for c in told[part]]
        for part in ("must", "must_not", "should")
        if told.get(part)
    }
    return q.Filter(**parts)


def _condition(told: Body) -> Any:
    if told.get("range"):
        limits = {k: v for k, v in told["range"].items() if v is not None}
        return q.FieldCondition(told["key"], range=q.RangeFloat(**limits))
    match = told["match"]
    wanted = q.MatchAny(match["any"]) if "any" in match else q.MatchValue(match["value"])
    return q.FieldCondition(told["key"], match=wanted)

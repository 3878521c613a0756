"""The collections of a tenant on Milvus."""

from typing import Any

from pymilvus import DataType, MilvusClient

from rag_store.base import HnswParameters
from rag_store.milvus.client import Milvus
from rag_store.versioned.records import DENSE, SPARSE

MAX_TERMS = 4096
_KEY_LENGTH = 128


def _schema() -> Any:
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_KEY_LENGTH)
    schema.add_field("body", DataType.JSON)
    return schema


async def create_records(milvus: Milvus, name: str) -> None:
    """A collection of plain records. Idempotent; Milvus wants a vector in each, so it gets one."""
    if await milvus.call("has_collection", name):
        return
    schema = _schema()
    schema.add_field("unused", DataType.FLOAT_VECTOR, dim=2)
    index = MilvusClient.prepare_index_params()
    index.add_index("unused", index_name="unused", index_type="FLAT", metric_type="L2")
    await _create(milvus, name, schema, index)


async def create_chunks(milvus: Milvus, name: str, dimension: int, hnsw: HnswParameters) -> None:
    """A collection of chunks with both vectors and their indexes. Idempotent."""
    if await milvus.call("has_collection", name):
        return
    schema = _schema()
    schema.add_field("document", DataType.VARCHAR, max_length=_KEY_LENGTH)
    schema.add_field("version", DataType.VARCHAR, max_length=_KEY_LENGTH)
    schema.add_field("written_at", DataType.INT64)
    schema.add_field("terms", DataType.ARRAY, element_type=DataType.INT64, max_capacity=MAX_TERMS)
    schema.add_field(DENSE, DataType.FLOAT_VECTOR, dim=dimension)
    schema.add_field(SPARSE, DataType.SPARSE_FLOAT_VECTOR)
    index = MilvusClient.prepare_index_params()
    index.add_index(
        DENSE,
        index_name=DENSE,
        index_type="HNSW",
        metric_type="COSINE",
        params={"M": hnsw.m, "efConstruction": hnsw.ef_construction},
    )
    index.add_index(SPARSE, index_name=SPARSE, index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    fields = ["document", "version"] if milvus.embedded else ["document", "version", "terms"]
    for field in fields:
        index.add_index(field, index_name=field, index_type="INVERTED")
    await _create(milvus, name, schema, index)


async def _create(milvus: Milvus, name: str, schema: Any, index: Any) -> None:
    # Strong: a writer's own reads must see what it wrote.
    await milvus.call(
        "create_collection", name, schema=schema, index_params=index, consistency_level="Strong"
    )


def record(key: str, body: dict[str, Any]) -> dict[str, Any]:
    """A row of a collection of plain records."""
    return {"id": key, "body": body, "unused": [0.0, 0.0]}

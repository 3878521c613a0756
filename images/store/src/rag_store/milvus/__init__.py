"""Milvus, behind the extra `milvus`: a generation is a collection; an alias names the active one."""

from rag_store.milvus.admin import MilvusAdmin
from rag_store.milvus.client import connect
from rag_store.milvus.store import MilvusStore

__all__ = ["MilvusAdmin", "MilvusStore", "connect"]

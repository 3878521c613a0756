"""Qdrant: a tenant's generation is a collection; an alias names the active one."""

from rag_store.qdrant.admin import QdrantAdmin
from rag_store.qdrant.client import connect
from rag_store.qdrant.store import QdrantStore

__all__ = ["QdrantAdmin", "QdrantStore", "connect"]

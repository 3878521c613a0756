"""The vector store interface with pgvector, Qdrant and Milvus behind it. Used by ingestion and retrieval."""

from rag_store.factory import open_admin, open_store

__all__ = ["open_admin", "open_store"]

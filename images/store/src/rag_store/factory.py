"""The store that a URL's scheme names. Each library is imported only when its store is opened."""

from pathlib import Path
from urllib.parse import urlsplit

from rag_store.base import HnswParameters, StoreAdmin, StoreError, VectorStore
from rag_store.checks import checked_url

DEFAULT_HNSW = HnswParameters()
SCHEMES = ("postgresql", "qdrant", "qdrants", "milvus")


def _scheme(url: str) -> str:
    scheme = urlsplit(checked_url(url)).scheme
    if scheme not in SCHEMES:
        raise StoreError(f"store URL scheme {scheme!r}: one of {', '.join(SCHEMES)}")
    return scheme


def open_store(
    url: str, credentials_file: Path, *, hnsw: HnswParameters = DEFAULT_HNSW
) -> VectorStore:
    """The data plane at `url` with the login in `credentials_file`, read for each connection.

    Connects on first use. Raises `StoreError` for a URL that names no store or has a password.
    """
    match _scheme(url):
        case "postgresql":
            from rag_store.pgvector import PgvectorStore

            return PgvectorStore(url, credentials_file, hnsw=hnsw)
        case "milvus":
            from rag_store.milvus import MilvusStore
            from rag_store.milvus import connect as connect_milvus

            return MilvusStore(connect_milvus(url, credentials_file), hnsw=hnsw)
        case _:
            from rag_store.qdrant import QdrantStore, connect

            return QdrantStore(connect(url, credentials_file), hnsw=hnsw)


def open_admin(url: str, credentials_file: Path) -> StoreAdmin:
    """Tenant onboarding at `url` with the admin login in `credentials_file`."""
    match _scheme(url):
        case "postgresql":
            from rag_store.pgvector import PgvectorAdmin

            return PgvectorAdmin(url, credentials_file)
        case "milvus":
            from rag_store.milvus import MilvusAdmin
            from rag_store.milvus import connect as connect_milvus

            return MilvusAdmin(connect_milvus(url, credentials_file))
        case _:
            from rag_store.qdrant import QdrantAdmin, connect

            return QdrantAdmin(connect(url, credentials_file))

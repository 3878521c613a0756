"""PostgreSQL with pgvector: a tenant is a schema that only the tenant's own roles can enter."""

from rag_store.pgvector.admin import PgvectorAdmin, bootstrap
from rag_store.pgvector.store import PgvectorStore

__all__ = ["PgvectorAdmin", "PgvectorStore", "bootstrap"]

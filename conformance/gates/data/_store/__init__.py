"""The store as gates know it, whichever it is: the scheme of its URL says."""

from typing import TYPE_CHECKING

from conformance.gate import Context, ProbeError

if TYPE_CHECKING:
    from conformance.gates.data._store.base import Kind


def of(context: Context) -> "Kind":
    """The kind of the target's store; raises `ProbeError` for one that no gate knows."""
    match scheme := context.target.description.vector_db_url.partition(":")[0]:
        case "postgresql":
            from conformance.gates.data._store.pgvector import Pgvector

            return Pgvector(context)
        case "qdrant" | "qdrants":
            from conformance.gates.data._store.qdrant import Qdrant

            return Qdrant(context)
    raise ProbeError(f"vector_db_url: no gate knows a store {scheme!r}; known: postgresql, qdrant")

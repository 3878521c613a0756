"""PostgreSQL with pgvector as gates know it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from conformance.corpora.prepare import Prepared
from conformance.gate import Context
from conformance.gates.data._store import reading
from conformance.gates.data._store.attempt import Attempt
from conformance.gates.data._store.base import Contents
from conformance.gates.data._store.pgvector import attempts, faults, restored
from rag_store.base import HnswParameters

_DEFAULTS = HnswParameters(m=16, ef_construction=64, ef_search=40)


@dataclass(frozen=True, slots=True)
class Pgvector:
    """Implements `base.Kind`."""

    context: Context
    defaults: HnswParameters = _DEFAULTS

    def graph(self, tenant: str) -> HnswParameters:
        """What the live index was built with."""
        return reading.numbers(self.context, tenant)

    def rebuilt_with(self, parameters: HnswParameters) -> AbstractContextManager[None]:
        """The corpus's index dropped and built with other parameters."""
        return faults.rebuilt_with(self.context, parameters)

    def mismatched(self) -> AbstractContextManager[None]:
        """Every passage with the token vectors of another one."""
        return faults.mismatched(self.context)

    def slowed(self) -> AbstractContextManager[None]:
        """Another session locks the passages for 0.3 s before every search."""
        return faults.locked(self.context)

    def losing(self, tenant: str, doc_id: str) -> AbstractContextManager[None]:
        """A trigger swallows the document's passages."""
        return faults.losing(self.context, tenant, doc_id)

    def forgetting(self, tenant: str) -> AbstractContextManager[None]:
        """Commits are acknowledged before they are on disk."""
        return faults.forgetting(self.context)

    def opened(self, small: str, large: str) -> AbstractContextManager[None]:
        """The large tenant's schema is open to everybody."""
        return faults.opened(self.context, large)

    def attempts(self, both: Prepared) -> Iterator[Attempt]:
        """In SQL, with the services' logins."""
        return attempts.through_sql(self.context)

    def contents(self, tenant: str) -> AbstractContextManager[Contents]:
        """The running store's, asked as the tenant's owner."""
        return restored.live(self.context, tenant)

    def restored(self, tenant: str, seconds: float) -> AbstractContextManager[Contents]:
        """The newest backup's, asked in the restore Job's pod."""
        return restored.restored(self.context, tenant, seconds)

    def half_a_backup(self) -> AbstractContextManager[None]:
        """The dump leaves the passages out, and succeeds."""
        return restored.half_a_backup(self.context)

"""What gates ask of a store, and do to it, beyond its contract; one module a kind."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt

from conformance.corpora.prepare import Prepared
from conformance.gates.data._store.attempt import Attempt
from rag_store.base import HnswParameters

DECLARED = HnswParameters()
Vectors = npt.NDArray[np.float32]


class Contents(Protocol):
    """A tenant's active generation: the running store's, or that of a copy."""

    def documents(self) -> dict[str, str]:
        """A digest over each document, its passages and their vectors, by its id."""

    def nearest(self, vectors: Vectors, depth: int) -> list[list[str]]:
        """The documents of the `depth` nearest passages of each vector, best first."""


class Kind(Protocol):
    """A kind of store. Every method raises `ProbeError` when it could not do it; blocks take back."""

    @property
    def defaults(self) -> HnswParameters:
        """The kind's own, which nobody tuned."""

    def graph(self, tenant: str) -> HnswParameters:
        """What the live index was built with; its ef_search is nobody's, so not looked at."""

    def rebuilt_with(self, parameters: HnswParameters) -> AbstractContextManager[None]:
        """Inside the block the corpus's index has other parameters, afterwards the declared ones."""

    def mismatched(self) -> AbstractContextManager[None]:
        """Inside the block every passage of the corpus has the token vectors of another one."""

    def slowed(self) -> AbstractContextManager[None]:
        """Inside the block a search of the corpus waits for others, about 0.3 s."""

    def losing(self, tenant: str, doc_id: str) -> AbstractContextManager[None]:
        """Inside the block the passages of one document that are written do not stay."""

    def forgetting(self, tenant: str) -> AbstractContextManager[None]:
        """Inside the block a write is acknowledged that may not last."""

    def opened(self, small: str, large: str) -> AbstractContextManager[None]:
        """Inside the block one tenant has a way to the other's passages."""

    def attempts(self, both: Prepared) -> Iterator[Attempt]:
        """Tries of the small tenant to read the large one's passages past the API."""

    def contents(self, tenant: str) -> AbstractContextManager[Contents]:
        """The running store's."""

    def restored(self, tenant: str, seconds: float) -> AbstractContextManager[Contents]:
        """The newest backup's, restored within `seconds` into a server of its own."""

    def half_a_backup(self) -> AbstractContextManager[None]:
        """Inside the block the backup's CronJob succeeds without all of the passages."""

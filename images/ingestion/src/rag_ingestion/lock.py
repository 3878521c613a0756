"""One run at a time on a tenant's index, on one machine.

The store interface has no lock, so this is a lock of a file that the kernel frees even after
kill -9; across machines the CronJob's `concurrencyPolicy: Forbid` does it.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rag_ingestion.errors import IngestionError, LockedError


@contextmanager
def exclusive(tenant: str, index: str, folder: Path | None = None) -> Iterator[None]:
    """Hold the lock of the tenant's index; raises `LockedError` when another run has it."""
    digest = hashlib.sha256(f"{index}\0{tenant}".encode()).hexdigest()[:16]
    path = (folder or Path(tempfile.gettempdir())) / f"rag-ingest-{digest}.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise IngestionError(f"lock {path}: {error.strerror}; set INGEST_LOCK_DIR") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise LockedError(f"tenant {tenant}: another ingestion is running; try again") from error
    finally:
        os.close(handle)

"""One message: its documents are in step with the source when it returns, or it comes again."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

from rag_common.files import SecretFileError
from rag_ingestion.errors import IngestionError
from rag_ingestion.events.metrics import Metrics
from rag_ingestion.events.notification import Change, PoisonError, changes
from rag_ingestion.events.settings import EventSettings
from rag_ingestion.one import ingest_one
from rag_ingestion.report import Report
from rag_store.base import StoreError, UnknownTenantError

log = logging.getLogger(__name__)
_RETRIED = (IngestionError, StoreError, SecretFileError, OSError)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0

Ingest = Callable[[Change], Awaitable[Report]]
DeadLetter = Callable[[bytes, str], Awaitable[None]]


class Handler:
    """Handles messages; `reason` says why the last one had to be tried again, or is None."""

    def __init__(
        self,
        settings: EventSettings,
        dead_letter: DeadLetter,
        metrics: Metrics,
        ingest: Ingest | None = None,
    ) -> None:
        self._settings, self._dead_letter, self._metrics = settings, dead_letter, metrics
        self._ingest = ingest or self._one
        self.reason: str | None = None

    async def __call__(self, body: bytes) -> None:
        """Return when the message is dealt with; raises what a later delivery may overcome."""
        started = time.monotonic()
        try:
            found = changes(body, self._settings.source_bucket)
            for change in found:
                await self._until_done(change)
        except (PoisonError, UnknownTenantError) as error:
            await self._dead_letter(body, str(error))
            self._metrics.events.labels("dead-letter").inc()
            log.error("an event was put aside", extra={"reason": str(error)})
            return
        self.reason = None
        if not found:
            self._metrics.events.labels("ignored").inc()
        self._metrics.seconds.observe(time.monotonic() - started)

    async def _until_done(self, change: Change) -> None:
        """Try for a while: then the broker hands the message out again, perhaps to another one."""
        end, pause = time.monotonic() + self._settings.events_retry_seconds, _FIRST_PAUSE
        while True:
            try:
                self._done(change, await self._ingest(change))
                return
            except UnknownTenantError:
                raise
            except _RETRIED as error:
                self.reason = str(error)
                self._metrics.events.labels("retried").inc()
                log.warning(
                    "an event is tried again", extra={**change._asdict(), "reason": str(error)}
                )
                if time.monotonic() + pause > end:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _done(self, change: Change, report: Report) -> None:
        for entry in report.set_aside:
            told = {"uri": entry.uri, "reason": entry.reason, "detail": entry.detail}
            log.warning("a document was set aside", extra=told)
        self._metrics.events.labels("set-aside" if report.set_aside else "ingested").inc()
        log.info("ingested", extra={**change._asdict(), "chunks": report.chunks})

    async def _one(self, change: Change) -> Report:
        return await ingest_one(change.source, change.key, change.tenant, self._settings)

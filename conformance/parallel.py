"""Gates measured side by side, so many at once, while the main thread asks for each in its turn."""

import ctypes
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from conformance.plan import Planned
from conformance.verdict import Result

AT_ONCE = 4


class Measure(Protocol):
    """Measures one gate; never raises but for an interrupt."""

    def __call__(self, planned: Planned) -> Result:
        """The gate's outcome."""


def raise_in(thread: int, kind: type[BaseException]) -> None:
    """Raise `kind` in another thread at its next step in Python; nothing if it has ended."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


class Ahead:
    """The outcomes of gates that are measured in threads from the moment this is made."""

    def __init__(
        self, measure: Measure, planned: Iterable[Planned], at_once: int = AT_ONCE
    ) -> None:
        self._measure = measure
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._stopped = False
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="gate")
        self._outcomes: dict[str, Future[Result]] = {
            each.id: self._pool.submit(self._one, each) for each in planned
        }

    def _one(self, planned: Planned) -> Result:
        thread = threading.get_ident()
        with self._lock:
            if self._stopped:
                raise KeyboardInterrupt
            self._running.add(thread)
        try:
            return self._measure(planned)
        finally:
            with self._lock:
                self._running.discard(thread)

    def outcome(self, gate_id: str) -> Result:
        """The gate's outcome, as soon as it is there."""
        return self._outcomes[gate_id].result()

    def stop(self) -> None:
        """Interrupt what is measured, let it clean up, and measure nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._stopped = True
            for thread in self._running:
                raise_in(thread, KeyboardInterrupt)
        self._pool.shutdown(wait=True)

"""Constant load in the background: every request is an outcome, the failed ones with their reason."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from conformance.gate import ProbeError

JOIN_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: its number, when it began (seconds into the load), how long it took, what failed."""

    number: int
    at: float
    seconds: float
    error: str = ""


class Load:
    """Calls `call(number)` `per_second` times a second from `clients` threads until its block ends.

    `call` returns '' or what failed; what it raises counts as a failure too: a caller got no answer.
    A request that has begun is waited for. When all clients are busy, the next request is late.
    """

    def __init__(self, call: Callable[[int], str], per_second: float, clients: int) -> None:
        self._call, self._clients = call, clients
        self._interval = 1 / per_second
        self._numbers = itertools.count()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._threads: list[threading.Thread] = []
        self._outcomes: list[Outcome] = []
        self._started = 0.0

    def __enter__(self) -> "Load":
        self._started = time.monotonic()
        self._threads = [
            threading.Thread(target=self._client, daemon=True) for _ in range(self._clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._over.set()
        deadline = time.monotonic() + JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if kind is None and any(thread.is_alive() for thread in self._threads):
            raise ProbeError(f"a request of the load did not end within {JOIN_SECONDS:g} s")

    @property
    def elapsed(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._started

    @property
    def outcomes(self) -> Sequence[Outcome]:
        """What came back so far, in the order of its end."""
        with self._lock:
            return list(self._outcomes)

    @property
    def failed(self) -> list[Outcome]:
        """The failed ones."""
        return [outcome for outcome in self.outcomes if outcome.error]

    def reasons(self, most: int = 5) -> list[str]:
        """The commonest failures, each with how often."""
        counted = Counter(outcome.error for outcome in self.failed)
        return [f"{count} x {reason}" for reason, count in counted.most_common(most)]

    def _client(self) -> None:
        while not self._over.is_set():
            with self._lock:
                number = next(self._numbers)
            if self._over.wait(max(0.0, number * self._interval - self.elapsed)):
                return
            at = self.elapsed
            error = self._told(number)
            with self._lock:
                self._outcomes.append(Outcome(number, at, self.elapsed - at, error))

    def _told(self, number: int) -> str:
        try:
            return self._call(number)
        except Exception as error:  # whatever a transport raises, the caller has no answer
            return f"{type(error).__name__}: {str(error)[:200]}"


def rates(outcomes: Sequence[Outcome], seconds: float = 5.0) -> list[tuple[float, float]]:
    """Requests a second that ended well, in steps of `seconds`, for a plot."""
    ended = Counter(int((o.at + o.seconds) // seconds) for o in outcomes if not o.error)
    return [(step * seconds, ended[step] / seconds) for step in range(max(ended, default=-1) + 1)]

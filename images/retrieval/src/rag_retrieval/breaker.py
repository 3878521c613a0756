"""A circuit breaker, so that a dead dependency that is not needed costs nothing."""

import time
from collections.abc import Callable


class Breaker:
    """Opens after `failures` in a row; lets one call through every `pause` seconds then."""

    def __init__(
        self,
        *,
        failures: int = 3,
        pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit, self._pause, self._clock = failures, pause, clock
        self._failed = 0
        self._next_try = 0.0

    def allow(self) -> bool:
        """Whether a call may be made now."""
        if self._failed < self._limit:
            return True
        if self._clock() < self._next_try:
            return False
        self._next_try = self._clock() + self._pause
        return True

    def success(self) -> None:
        """The call worked: close."""
        self._failed = 0

    def failure(self) -> None:
        """The call failed."""
        self._failed += 1
        self._next_try = self._clock() + self._pause

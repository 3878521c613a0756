"""Looking again until something holds, or the time is over: what was seen last is the measurement."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 2.0


def settled(look: Callable[[], T], seconds: float, *, bad: Callable[[T], bool] = bool) -> T:
    """What `look` saw once it was no longer bad (true, by default), or last within `seconds`."""
    deadline = time.monotonic() + seconds
    while bad(seen := look()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return seen

"""When a cron trigger of KEDA wants replicas, at any instant: its clock is an argument."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from conformance.gate import ProbeError

MINUTE = timedelta(minutes=1)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
# Lowest and highest value, and names from the lowest up.
_FIELDS: tuple[tuple[int, int, list[str]], ...] = (
    (0, 59, []),
    (0, 23, []),
    (1, 31, []),
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_LOOK_AHEAD_DAYS = 366 * 5


@dataclass(frozen=True)
class Schedule:
    """A Linux-format cron line: minute, hour, day of month, month, day of week."""

    line: str

    def after(self, moment: datetime) -> datetime:
        """The first time after `moment`, in its zone; raises `ProbeError` when there is none."""
        minutes, hours, _, months, _ = self._fields
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        for ahead in range(_LOOK_AHEAD_DAYS):
            date = day + timedelta(days=ahead)
            if date.month not in months or not self._on(date):
                continue
            for hour in sorted(hours):
                for minute in sorted(minutes):
                    found = date.replace(hour=hour, minute=minute)
                    if found > moment:
                        return found
        raise ProbeError(f"cron line {self.line!r} never comes")

    def _on(self, date: datetime) -> bool:
        _, _, of_month, _, of_week = self._fields
        words = self.line.split()
        by_month, by_week = date.day in of_month, (date.weekday() + 1) % 7 in of_week
        if words[2][0] in "*?" or words[4][0] in "*?":
            return by_month and by_week
        return by_month or by_week  # as cron does when both are restricted

    @cached_property
    def _fields(self) -> list[frozenset[int]]:
        words = self.line.lower().split()
        if len(words) != len(_FIELDS):
            raise ProbeError(f"cron line {self.line!r} has {len(words)} fields, not five")
        try:
            pairs = zip(words, _FIELDS, strict=True)
            return [_values(word, *field) for word, field in pairs]
        except ValueError as error:
            raise ProbeError(f"cron line {self.line!r}: {error}") from error


@dataclass(frozen=True)
class Window:
    """A cron trigger: so many replicas between its start and its end, none otherwise."""

    start: Schedule
    end: Schedule
    zone: ZoneInfo
    replicas: int

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> "Window":
        """The window of a trigger's metadata; raises `ProbeError`."""
        try:
            zone = ZoneInfo(metadata["timezone"])
            replicas = int(metadata["desiredReplicas"])
            return cls(Schedule(metadata["start"]), Schedule(metadata["end"]), zone, replicas)
        except (KeyError, ValueError, ZoneInfoNotFoundError) as error:
            raise ProbeError(f"cron trigger {dict(metadata)}: {error!r}") from error

    def wants(self, moment: datetime) -> int:
        """The replicas it asks for at `moment` (which has a zone)."""
        here = moment.astimezone(self.zone)
        inside = self.end.after(here) <= self.start.after(here)
        return self.replicas if inside else 0


def _values(word: str, low: int, high: int, names: list[str]) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, _, step = part.partition("/")
        first, last = _span(span, low, high, names, open_ended=bool(step))
        if not low <= first <= last <= high or (step and int(step) < 1):
            raise ValueError(f"{part!r} is not within {low}-{high}")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _span(span: str, low: int, high: int, names: list[str], *, open_ended: bool) -> tuple[int, int]:
    if span in ("*", "?"):
        return low, high
    first, dash, last = span.partition("-")
    begin = _number(first, low, names)
    if dash:
        return begin, _number(last, low, names)
    return begin, high if open_ended else begin


def _number(word: str, low: int, names: list[str]) -> int:
    return names.index(word) + low if word in names else int(word)

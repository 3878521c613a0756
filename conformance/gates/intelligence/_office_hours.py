"""When the LLM's ScaledObject keeps it warm, by a simulated clock, against the declared office hours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from conformance.gate import ProbeError
from conformance.probes.cluster import Object
from conformance.probes.cron import Window

STEP = timedelta(minutes=15)
_MONDAY = datetime(2026, 11, 23)  # of any week without a change of the clocks
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class OfficeHours:
    """Days and times of the day, in a time zone, at which people ask questions."""

    days: Sequence[str]
    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def of(cls, declared: Mapping[str, Any]) -> "OfficeHours":
        """From `{days, from, to, timezone}`; raises `ProbeError`."""
        try:
            days = [str(day) for day in declared["days"]]
            if unknown := set(days) - set(_DAYS):
                raise ValueError(f"no days: {sorted(unknown)}")
            start, end = (time.fromisoformat(declared[key]) for key in ("from", "to"))
            return cls(days, start, end, ZoneInfo(declared["timezone"]))
        except (KeyError, ValueError, TypeError) as error:
            raise ProbeError(f"office hours {dict(declared)}: {error!r}") from error

    def hold(self, moment: datetime) -> bool:
        """Whether `moment` is within them."""
        here = moment.astimezone(self.zone)
        return _DAYS[here.weekday()] in self.days and self.start <= here.time() < self.end

    def week(self) -> Iterator[datetime]:
        """A simulated week, a second after every quarter of an hour and a second before it."""
        first = _MONDAY.replace(tzinfo=self.zone)
        for number in range(int(timedelta(days=7) / STEP)):
            moment = first + number * STEP
            yield from (moment + timedelta(seconds=1), moment + STEP - timedelta(seconds=1))


def windows(scaled_object: Object) -> list[Window]:
    """The cron triggers of a ScaledObject; raises `ProbeError` for one that cannot be read."""
    triggers = scaled_object["spec"]["triggers"]
    return [Window.of(t["metadata"]) for t in triggers if t["type"] == "cron"]


def kept(scaled_object: Object, moment: datetime) -> int:
    """Replicas that are kept at `moment` with nobody asking anything."""
    least = int(scaled_object["spec"].get("minReplicaCount", 0))
    return max([least, *(window.wants(moment) for window in windows(scaled_object))])


def kept_over_a_week(scaled_object: Object, hours: OfficeHours) -> tuple[list[int], list[int]]:
    """Replicas kept at each simulated moment: inside the office hours, and outside of them."""
    inside: list[int] = []
    outside: list[int] = []
    for moment in hours.week():
        (inside if hours.hold(moment) else outside).append(kept(scaled_object, moment))
    if not inside or not outside:
        raise ProbeError("the declared office hours are the whole week, or nothing of it")
    return inside, outside

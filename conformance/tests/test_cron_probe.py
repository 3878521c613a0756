"""Cron windows at simulated instants, as KEDA reads them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from conformance.gate import ProbeError
from conformance.probes.cron import Schedule, Window

OFFICE = {
    "timezone": "Europe/Berlin",
    "start": "0 8 * * 1-5",
    "end": "0 18 * * 1-5",
    "desiredReplicas": "2",
}
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("when", "wanted"),
    [
        ("2026-11-24 07:59:59", 0),
        ("2026-11-24 08:00:00", 2),
        ("2026-11-24 08:00:01", 2),
        ("2026-11-24 17:59:59", 2),
        ("2026-11-24 18:00:00", 0),
        ("2026-11-28 12:00:00", 0),  # a Saturday
        ("2026-11-27 18:00:01", 0),
        ("2026-11-30 07:59:59", 0),
    ],
)
def test_the_edges_of_office_hours(when, wanted):
    moment = datetime.fromisoformat(when).replace(tzinfo=BERLIN)
    assert Window.of(OFFICE).wants(moment) == wanted
    assert Window.of(OFFICE).wants(moment.astimezone(UTC)) == wanted


@pytest.mark.parametrize(("hour", "wanted"), [(23, 1), (3, 1), (12, 0)])
def test_a_window_over_midnight(hour, wanted):
    window = Window.of(
        {"timezone": "UTC", "start": "0 22 * * *", "end": "0 6 * * *", "desiredReplicas": "1"}
    )
    assert window.wants(datetime(2026, 1, 1, hour, tzinfo=UTC)) == wanted


@pytest.mark.parametrize(
    ("line", "after", "then"),
    [
        ("*/15 * * * *", "2026-01-01 00:14", "2026-01-01 00:15"),
        ("5/20 3 * * *", "2026-01-01 03:25", "2026-01-01 03:45"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 9 * jan,mar mon-wed", "2026-01-28 09:00", "2026-03-02 09:00"),
        ("0 0 13 * 5", "2026-01-01 00:00", "2026-01-02 00:00"),  # the 13th, or a Friday
        ("1-3,10 0 * * *", "2026-01-01 00:03", "2026-01-01 00:10"),
    ],
)
def test_the_next_time_of_a_line(line, after, then):
    assert Schedule(line).after(datetime.fromisoformat(after)) == datetime.fromisoformat(then)


@pytest.mark.parametrize(
    "line", ["* * * *", "60 * * * *", "x * * * *", "5-1 * * * *", "*/0 * * * *"]
)
def test_a_line_that_cannot_be_read_is_an_error(line):
    with pytest.raises(ProbeError, match="cron line"):
        Schedule(line).after(datetime(2026, 1, 1))


def test_a_line_that_never_comes_is_an_error():
    with pytest.raises(ProbeError, match="never"):
        Schedule("0 0 30 2 *").after(datetime(2026, 1, 1))


@pytest.mark.parametrize("change", [{"timezone": "Nowhere/Here"}, {"desiredReplicas": "many"}])
def test_a_trigger_that_cannot_be_read_is_an_error(change):
    with pytest.raises(ProbeError, match="cron trigger"):
        Window.of({**OFFICE, **change})
    with pytest.raises(ProbeError):
        Window.of({})

"""A record's index and id, and the records that have neither."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from rag_audit.documents import day_of, document, index_of
from rag_audit.errors import PoisonError

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
GOOD = {"event": "intent", "request_id": "r1", "time": "2026-11-29T11:59:59.000001+00:00"}


def made(**changes):
    return document(json.dumps(GOOD | changes).encode(), lambda: NOW)


def test_the_index_is_the_records_own_day_in_utc():
    assert made().index == "audit-2026.11.29"
    assert made(time="2026-11-28T23:30:00-01:00").index == "audit-2026.11.29"
    assert made(time="2026-11-29T00:30:00+01:00").index == "audit-2026.11.28"


def test_the_same_record_has_the_same_id_and_another_one_another():
    assert made().id == made().id
    assert made().id.startswith("r1.intent.")
    assert len({made().id, made(event="completion").id, made(query="x").id, made(user="y").id}) == 4


def test_a_bulk_action_creates_and_never_overwrites():
    action, source = made().lines
    assert list(json.loads(action)) == ["create"]
    assert json.loads(source) == GOOD


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not JSON"),
        (b"{torn", "not JSON"),
        (b'{"x": NaN}', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "request_id"),
    ],
)
def test_what_is_no_record_is_poison(value, reason):
    with pytest.raises(PoisonError, match=reason):
        document(value, lambda: NOW)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"request_id": ""}, "request_id"),
        ({"request_id": 7}, "request_id"),
        ({"request_id": "x" * 300}, "request_id"),
        ({"request_id": "é" * 255}, "too long"),
        ({"event": "other"}, "event"),
        ({"time": None}, "time"),
        ({"time": "yesterday"}, "time"),
        ({"time": "2026-11-29T11:59:59"}, "offset"),
        ({"time": "1999-01-01T00:00:00+00:00"}, "not a time of this system"),
        ({"time": (NOW + timedelta(days=2)).isoformat()}, "not a time of this system"),
    ],
)
def test_a_record_without_a_place_is_poison(changes, reason):
    with pytest.raises(PoisonError, match=reason):
        made(**changes)


def test_only_dated_indices_have_a_day():
    assert day_of("audit-2026.11.29") == datetime(2026, 11, 29, tzinfo=UTC)
    assert index_of(NOW) == "audit-2026.11.29"
    for name in ("audit-2026.1.2", "audit-2026.13.01", "audit-keep", "logs-2026.11.29"):
        assert day_of(name) is None

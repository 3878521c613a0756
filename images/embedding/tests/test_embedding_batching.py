import asyncio

import pytest

from rag_embedding.backend import Encoded
from rag_embedding.batching import Batcher, QueueFullError, padded_length

DENSE = frozenset({"dense"})


def texts(*lengths):
    return [Encoded(tuple(range(n)), "x" * n) for n in lengths]


@pytest.fixture
async def start():
    made = []

    def make(backend, **options):
        batcher = Batcher(backend, **{"max_batch_tokens": 8192, "max_queue": 100} | options)
        batcher.start()
        made.append(batcher)
        return batcher

    yield make
    for batcher in made:
        await batcher.stop()


def test_padding_is_bounded():
    for tokens in range(2, 513):
        assert tokens <= padded_length(tokens) <= max(tokens + 7, tokens * 1.25)


async def test_vectors_come_in_the_order_of_the_texts(slow, start):
    lengths = [30, 4, 100, 5, 29, 101, 4]
    vectors = await start(slow()).embed(texts(*lengths), DENSE)
    assert [int(v.dense[0]) for v in vectors] == lengths


async def test_a_pass_holds_texts_of_one_length_class_only(slow, start):
    backend = slow()
    await start(backend).embed(texts(3, 60, 4, 200, 58, 5), DENSE)
    assert all(len({padded_length(n) for n in batch}) == 1 for batch in backend.batches)
    assert len(backend.batches) == 3


async def test_a_pass_is_bounded_in_tokens(slow, start):
    backend = slow()
    await start(backend, max_batch_tokens=512).embed(texts(*[128] * 20), DENSE)
    assert sum(map(len, backend.batches)) == 20
    assert max(map(sum, backend.batches)) <= 512


async def test_waiting_requests_share_passes(slow, start):
    backend = slow(0.02)
    batcher = start(backend)
    await asyncio.gather(*(batcher.embed(texts(6), DENSE) for _ in range(9)))
    assert len(backend.batches) <= 2
    assert sum(map(len, backend.batches)) == 9


async def test_a_short_query_overtakes_a_bulk_load(slow, start):
    backend = slow(0.01)
    batcher = start(backend, max_batch_tokens=512)
    bulk = asyncio.create_task(batcher.embed(texts(*[250] * 60), DENSE))
    while len(backend.batches) < 3:
        await asyncio.sleep(0.001)
    before = len(backend.batches)
    await batcher.embed(texts(8), DENSE)
    assert [8] in backend.batches[before : before + 2]  # after the running pass, alone
    assert not bulk.done()
    assert len(await bulk) == 60


async def test_two_bulk_loads_take_turns(slow, start):
    backend = slow(0.002)
    batcher = start(backend, max_batch_tokens=512)
    first = asyncio.create_task(batcher.embed(texts(*[250] * 40), DENSE))
    await asyncio.sleep(0.005)
    await batcher.embed(texts(*[100] * 40), DENSE)
    assert not first.done()  # 40 short ones are less work than 40 long ones
    await first


async def test_a_full_queue_refuses_with_an_estimate(slow, start):
    batcher = start(slow(0.05), max_queue=4)
    first = asyncio.create_task(batcher.embed(texts(*[250] * 5), DENSE))  # an empty queue takes it
    await asyncio.sleep(0.01)
    with pytest.raises(QueueFullError) as full:
        await batcher.embed(texts(8, 8), DENSE)
    assert full.value.retry_after >= 1
    await first
    assert len(await batcher.embed(texts(8, 8), DENSE)) == 2


async def test_an_abandoned_request_leaves_the_queue(slow, start):
    backend = slow(0.02)
    batcher = start(backend, max_batch_tokens=512)
    task = asyncio.create_task(batcher.embed(texts(*[250] * 50), DENSE))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert batcher.depth == 0
    assert len(await batcher.embed(texts(8), DENSE)) == 1
    assert len(backend.batches) <= 3


async def test_a_failed_pass_fails_its_requests_and_no_others(slow, start):
    batcher = start(slow())
    with pytest.raises(RuntimeError, match="out of memory"):
        await batcher.embed([Encoded((1, 2), "boom")], DENSE)
    assert batcher.healthy
    assert batcher.depth == 0
    assert len(await batcher.embed(texts(8), DENSE)) == 1


async def test_it_is_unhealthy_when_it_does_not_run(slow):
    batcher = Batcher(slow(), max_batch_tokens=512, max_queue=4)
    assert not batcher.healthy
    await batcher.stop()

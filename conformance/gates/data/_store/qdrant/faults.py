"""Faults in a tenant's Qdrant collections, planted with the API key and taken back."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from qdrant_client import AsyncQdrantClient, models

from conformance.corpora.prepare import TENANT
from conformance.gate import Context, ProbeError
from conformance.gates.data._store.base import DECLARED
from conformance.gates.data._store.qdrant import asking
from rag_store.base import HnswParameters, StoreError
from rag_store.qdrant.client import Names
from rag_store.qdrant.points import where
from rag_store.versioned.records import DENSE

PAIRS, AGAIN_SECONDS = 32, 0.05
_DOCUMENTS = "__documents"
Round = Callable[[AsyncQdrantClient], Awaitable[object]]


@contextmanager
def rebuilt_with(context: Context, parameters: HnswParameters) -> Iterator[None]:
    """Inside the block the graph has other parameters; afterwards the declared ones."""
    chunks = asking.passages(context, TENANT)
    try:
        asking.ask(context, lambda client: _rebuilt(client, chunks, parameters))
        yield
    finally:
        asking.ask(context, lambda client: _rebuilt(client, chunks, DECLARED))


async def _rebuilt(client: AsyncQdrantClient, chunks: str, wanted: HnswParameters) -> None:
    """The optimizers build the graph of every segment anew that has other numbers."""
    hnsw = models.HnswConfigDiff(m=wanted.m, ef_construct=wanted.ef_construction)
    changed = {DENSE: models.VectorParamsDiff(hnsw_config=hnsw)}
    await client.update_collection(chunks, vectors_config=changed)
    await asking.built(client, chunks)


@contextmanager
def mismatched(context: Context) -> Iterator[None]:
    """Inside the block every chunk has the token vectors of another one."""
    chunks = asking.passages(context, TENANT)
    asking.ask(context, lambda client: mirror(client, chunks))
    try:
        yield
    finally:
        asking.ask(context, lambda client: mirror(client, chunks))


async def mirror(client: AsyncQdrantClient, chunks: str) -> None:
    """Give the n-th chunk the token vectors of the n-th last; done twice it changes nothing."""
    places: list[tuple[str, int, models.ExtendedPointId]] = []
    async for point in asking.points(client, chunks, ["doc_id", "ordinal", "late"]):
        told = point.payload or {}
        if told.get("late"):
            places.append((told["doc_id"], told["ordinal"], point.id))
    ids = [place[-1] for place in sorted(places, key=lambda place: (*place[:2], str(place[2])))]
    pairs = list(zip(ids, reversed(ids), strict=True))[: len(ids) // 2]
    if not pairs:
        raise ProbeError("the index holds no token vectors to rerank by")
    for start in range(0, len(pairs), PAIRS):
        await _swap(client, chunks, pairs[start : start + PAIRS])


async def _swap(
    client: AsyncQdrantClient,
    chunks: str,
    pairs: list[tuple[models.ExtendedPointId, models.ExtendedPointId]],
) -> None:
    wanted = [point for pair in pairs for point in pair]
    found = await client.retrieve(chunks, wanted, with_payload=["late"])
    late = {point.id: (point.payload or {})["late"] for point in found}
    swapped = [(one, late[other]) for pair in pairs for one, other in (pair, pair[::-1])]
    operations: list[models.UpdateOperation] = [
        models.SetPayloadOperation(
            set_payload=models.SetPayload(payload={"late": vectors}, points=[point])
        )
        for point, vectors in swapped
    ]
    await client.batch_update_points(chunks, operations)


@contextmanager
def losing(context: Context, tenant: str, doc_id: str) -> Iterator[None]:
    """Another session deletes the document's chunks as they come: there are no triggers here."""
    chunks = asking.passages(context, tenant)
    gone = models.FilterSelector(filter=where(doc_id=doc_id))
    with _again_and_again(context, lambda client: client.delete(chunks, gone)):
        yield


@contextmanager
def forgetting(context: Context, tenant: str) -> Iterator[None]:
    """Another session deletes documents: no setting makes Qdrant acknowledge before its log has them."""
    names = Names(tenant)

    async def forget(client: AsyncQdrantClient) -> None:
        there = (await client.get_collections()).collections
        for name in (item.name for item in there):
            if name.startswith(names.prefix) and name.endswith(_DOCUMENTS):
                found, _ = await client.scroll(name, limit=1, with_payload=False)
                await client.delete(name, [point.id for point in found])

    with _again_and_again(context, forget):
        yield


@contextmanager
def _again_and_again(context: Context, work: Round) -> Iterator[None]:
    """Inside the block another session does `work` over and over, whatever becomes of it meanwhile."""
    over, ready = threading.Event(), threading.Event()
    done, trouble = [0], [""]
    url, file = context.target.description.vector_db_url, asking.key_file(context)

    async def go_on() -> None:
        while not over.is_set():
            try:
                await asking.asked(url, file, work)
                done[0] += 1
            except StoreError as error:  # of a store that is being killed, say
                trouble[0] = str(error)
            ready.set()
            await asyncio.sleep(AGAIN_SECONDS)

    with ThreadPoolExecutor(1) as pool:
        session = pool.submit(asyncio.run, go_on())
        try:
            ready.wait(60)
            yield
        finally:
            over.set()
            session.result()  # raises what ended it
    if not done[0]:
        raise ProbeError(f"the fault was never planted: {trouble[0]}")


@contextmanager
def opened(context: Context, small: str, large: str) -> Iterator[None]:
    """Inside the block an alias of the small tenant's leads to the large one's chunks."""
    chunks, alias = asking.passages(context, large), f"{Names(small).prefix}shared"
    make = models.CreateAlias(collection_name=chunks, alias_name=alias)
    gone = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
    made = models.CreateAliasOperation(create_alias=make)
    try:
        asking.ask(context, lambda client: client.update_collection_aliases([made]))
        yield
    finally:
        asking.ask(context, lambda client: client.update_collection_aliases([gone]))

"""Clients of a target's Qdrant with its API key, which may do all that a fault needs."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
from qdrant_client import AsyncQdrantClient, models

from conformance.gate import Context, ProbeError
from conformance.gates.data._store import reading
from rag_common.files import SecretFileError, read_credentials
from rag_store.base import StoreError
from rag_store.qdrant.client import PORT, Names, connect, translated

BUILD_SECONDS, LOOKS, LOOK_SECONDS, PAGE = 1800.0, 3, 0.5, 500
Asked = TypeVar("Asked")


def key_file(context: Context) -> Path:
    """The file whose password is the API key; raises `ProbeError`."""
    file = context.target.description.credentials.get("admin")
    if file is None:
        raise ProbeError("the target has no credentials.admin: the API key, which signs tokens")
    return file


def key(context: Context) -> str:
    """The API key; raises `ProbeError`."""
    try:
        return read_credentials(key_file(context)).password
    except SecretFileError as error:
        raise ProbeError(str(error)) from error


def http_url(context: Context) -> str:
    """Where the API is."""
    url = httpx.URL(context.target.description.vector_db_url)
    scheme = "https" if url.scheme == "qdrants" else "http"
    return str(url.copy_with(scheme=scheme, port=url.port or PORT))


async def asked(
    url: str, file: Path, work: Callable[[AsyncQdrantClient], Awaitable[Asked]]
) -> Asked:
    """What `work` makes of a client at `url`; raises `StoreError`."""
    client = connect(url, file)
    try:
        with translated():
            return await work(client)
    finally:
        await client.close()


def ask(context: Context, work: Callable[[AsyncQdrantClient], Awaitable[Asked]]) -> Asked:
    """What `work` makes of a client with the API key; raises `ProbeError`."""
    return ask_at(context.target.description.vector_db_url, key_file(context), work)


def ask_at(url: str, file: Path, work: Callable[[AsyncQdrantClient], Awaitable[Asked]]) -> Asked:
    """What `work` makes of a client at `url`; raises `ProbeError`."""
    try:
        return asyncio.run(asked(url, file, work))
    except StoreError as error:
        raise ProbeError(str(error)) from error


def passages(context: Context, tenant: str) -> str:
    """The collection of the tenant's passages; raises `ProbeError` when nothing is indexed."""
    return Names(tenant).chunks(reading.generation(context, tenant))


async def points(
    client: AsyncQdrantClient,
    collection: str,
    with_payload: bool | list[str] = True,
    with_vectors: bool | list[str] = False,
) -> AsyncIterator[models.Record]:
    """Every point, page by page."""
    offset: models.ExtendedPointId | None = None
    while True:
        page, offset = await client.scroll(
            collection,
            limit=PAGE,
            offset=offset,
            with_payload=with_payload,
            with_vectors=with_vectors,
        )
        for point in page:
            yield point
        if offset is None:
            return


async def built(client: AsyncQdrantClient, collection: str) -> models.CollectionInfo:
    """The collection, once its optimizers have been seen to rest; raises `ProbeError`."""
    until, resting = time.monotonic() + BUILD_SECONDS, 0
    while True:
        info = await client.get_collection(collection)
        green = info.status == models.CollectionStatus.GREEN
        resting = resting + 1 if green else 0  # they begin a moment after what they are told
        if resting >= LOOKS:
            return info
        if time.monotonic() > until:
            raise ProbeError(f"qdrant: {collection} is {info.status} after {BUILD_SECONDS:g} s")
        await asyncio.sleep(LOOK_SECONDS)

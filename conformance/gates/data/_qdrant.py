"""Reading a foreign tenant's points in Qdrant: by a token of the small tenant, and by tokens that are none.

The services' own logins reach every tenant's collections there; what keeps tenants apart is
retrieval, and that the store honours a token for the collections that it names and no others.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence

import httpx
import jwt

from conformance.corpora.prepare import SMALL_TENANT, TENANT
from conformance.gate import Context, ProbeError
from conformance.gates.data._attempt import Attempt
from rag_common.files import SecretFileError, read_credentials
from rag_store.base import StoreError
from rag_store.qdrant.client import PORT, Names

_REFUSED = frozenset({401, 403})
_SECONDS = 30.0
_VALID_SECONDS = 600


def through_qdrant(context: Context) -> Iterator[Attempt]:
    """Each way to the large tenant's collections; raises `ProbeError` when nothing could leak."""
    small, large = (_collections(context, tenant) for tenant in (SMALL_TENANT, TENANT))
    key = _key(context)
    own = token(key, small)
    ways = {
        "a token of the small tenant": own,
        "a token that another key signed": token(f"{key}x", large),
        "a token that is over": token(key, large, valid_seconds=-_VALID_SECONDS),
        "a token for nothing": token(key, []),
        "no token": "",
    }
    with httpx.Client(base_url=_url(context), timeout=_SECONDS, trust_env=False) as client:
        for given, names in ((own, small), (token(key, large), large)):
            _must_read(client, given, names[0])
        for way, given in ways.items():
            for name in large:
                yield _attempt(client, f"qdrant: {way}: {name}", given, name)


def token(key: str, collections: Sequence[str], valid_seconds: int = _VALID_SECONDS) -> str:
    """A token that reads these collections, as Qdrant takes it: signed with its API key."""
    access = [{"collection": name, "access": "r"} for name in collections]
    claims = {"exp": int(time.time()) + valid_seconds, "access": access}
    return jwt.encode(claims, key, algorithm="HS256")


def _collections(context: Context, tenant: str) -> list[str]:
    """A tenant's passages, documents and registry."""

    async def generation() -> str:
        store = context.target.store("reader")
        try:
            return (await store.active_generation(tenant)).id
        finally:
            await store.close()

    try:
        found = asyncio.run(generation())
    except StoreError as error:
        raise ProbeError(f"tenant {tenant}: {error}") from error
    names = Names(tenant)
    return [names.chunks(found), names.documents(found), names.registry]


def _key(context: Context) -> str:
    file = context.target.description.credentials.get("admin")
    if file is None:
        raise ProbeError("the target has no credentials.admin: it signs Qdrant's tokens")
    try:
        return read_credentials(file).password
    except SecretFileError as error:
        raise ProbeError(str(error)) from error


def _url(context: Context) -> str:
    url = httpx.URL(context.target.description.vector_db_url)
    scheme = "https" if url.scheme == "qdrants" else "http"
    return str(url.copy_with(scheme=scheme, port=url.port or PORT))


def _ask(client: httpx.Client, given: str, name: str) -> httpx.Response:
    headers = {"api-key": given} if given else {}
    body = {"limit": 1, "with_payload": True}
    try:
        return client.post(f"/collections/{name}/points/scroll", json=body, headers=headers)
    except httpx.HTTPError as error:
        raise ProbeError(f"qdrant: {error or type(error).__name__}") from error


def _must_read(client: httpx.Client, given: str, name: str) -> None:
    """A token that is good reads what it is for; otherwise a refusal would prove nothing."""
    answer = _ask(client, given, name)
    if answer.status_code != httpx.codes.OK or not answer.json()["result"]["points"]:
        said = f"HTTP {answer.status_code}: {answer.text[:200]}"
        raise ProbeError(f"qdrant: {name} cannot be read by a token for it: {said}")


def _attempt(client: httpx.Client, way: str, given: str, name: str) -> Attempt:
    answer = _ask(client, given, name)
    if answer.status_code not in _REFUSED | {httpx.codes.OK}:  # it says nothing of the tenant
        raise ProbeError(f"{way}: HTTP {answer.status_code}: {answer.text[:200]}")
    return Attempt(way, answer.status_code == httpx.codes.OK, f"HTTP {answer.status_code}")

"""Reading a foreign tenant's points in Qdrant: by a token of the small tenant, and by tokens that are none.

The services' own logins reach every tenant's collections there; what keeps tenants apart is
retrieval, that the store honours a token for the collections that it names and no others, and
that a tenant's names lead to its own passages.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import jwt

from conformance.corpora.prepare import SMALL_TENANT, TENANT, Prepared
from conformance.gate import Context, ProbeError
from conformance.gates.data._store import reading
from conformance.gates.data._store.attempt import Attempt
from conformance.gates.data._store.qdrant import asking
from rag_store.qdrant.client import Names

_REFUSED = frozenset({401, 403})
_SECONDS, _VALID_SECONDS, _PAGE = 30.0, 600, 1000
_FIELD = "doc_id"


def through_qdrant(context: Context, both: Prepared) -> Iterator[Attempt]:
    """Each way to the large tenant's passages; raises `ProbeError` when nothing could leak."""
    small, large = (_collections(context, tenant) for tenant in (SMALL_TENANT, TENANT))
    key = asking.key(context)
    own = token(key, small)
    ways = {
        "a token of the small tenant": own,
        "a token that another key signed": token(f"{key}x", large),
        "a token that is over": token(key, large, valid_seconds=-_VALID_SECONDS),
        "a token for nothing": token(key, []),
        "no token": "",
    }
    url = asking.http_url(context)
    with httpx.Client(base_url=url, timeout=_SECONDS, trust_env=False) as client:
        for given, names in ((own, small), (token(key, large), large)):
            _must_read(client, given, names[0])
        for way, given in ways.items():
            for name in large:
                yield _attempt(client, f"qdrant: {way}: {name}", given, name)
        documents = {document.doc_id for document in both.small.corpus.documents}
        for name in _names(client, key):
            yield _own(client, token(key, [name]), name, documents)


def token(key: str, collections: Sequence[str], valid_seconds: int = _VALID_SECONDS) -> str:
    """A token that reads these collections, as Qdrant takes it: signed with its API key."""
    access = [{"collection": name, "access": "r"} for name in collections]
    claims = {"exp": int(time.time()) + valid_seconds, "access": access}
    return jwt.encode(claims, key, algorithm="HS256")


def _collections(context: Context, tenant: str) -> list[str]:
    """A tenant's passages, documents and registry."""
    names, found = Names(tenant), reading.generation(context, tenant)
    return [names.chunks(found), names.documents(found), names.registry]


def _names(client: httpx.Client, key: str) -> list[str]:
    """The small tenant's collections, and its aliases, whose names a token takes as well."""
    found = _told(client, key, "/collections", "collections", "name")
    found += _told(client, key, "/aliases", "aliases", "alias_name")
    return sorted(name for name in found if name.startswith(Names(SMALL_TENANT).prefix))


def _told(client: httpx.Client, key: str, path: str, what: str, field: str) -> list[str]:
    try:
        answer = client.get(path, headers={"api-key": key}).raise_for_status()
    except httpx.HTTPError as error:
        raise ProbeError(f"qdrant: {error!r}") from error
    return [str(item[field]) for item in answer.json()["result"][what]]


def _ask(client: httpx.Client, given: str, name: str, **more: Any) -> httpx.Response:
    headers = {"api-key": given} if given else {}
    body = {"limit": 1, "with_payload": True, **more}
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


def _own(client: httpx.Client, given: str, name: str, documents: set[str]) -> Attempt:
    """What a token for a name of the small tenant's reads there that is not the small tenant's."""
    way, foreign, offset = f"qdrant: a name of the small tenant's: {name}", set[str](), None
    while True:
        asked = {"limit": _PAGE, "with_payload": [_FIELD], "offset": offset}
        answer = _ask(client, given, name, **asked)
        if answer.status_code in _REFUSED:
            return Attempt(way, False, f"HTTP {answer.status_code}")
        if answer.status_code != httpx.codes.OK:
            raise ProbeError(f"{way}: HTTP {answer.status_code}: {answer.text[:200]}")
        page = answer.json()["result"]
        told = (str((point.get("payload") or {}).get(_FIELD) or "") for point in page["points"])
        foreign |= {doc_id for doc_id in told if doc_id and doc_id not in documents}
        if (offset := page.get("next_page_offset")) is None:
            return Attempt(way, bool(foreign), f"{len(foreign)} foreign {sorted(foreign)[:3]}")

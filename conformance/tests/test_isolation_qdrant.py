"""Tenants in Qdrant, asked of a server that honours tokens, and of ones that do not."""

import hmac
import json
import threading
import time
from base64 import urlsafe_b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from conformance.corpora.prepare import SMALL_TENANT, TENANT
from conformance.gate import ProbeError
from conformance.gates.data import _store
from rag_store.base import StoreError

KEY = "of-this-test-only-and-of-nothing-else"
GENERATION = "0123456789ab"
OWN = f"{SMALL_TENANT}__{GENERATION}"
ALIAS = f"{SMALL_TENANT}__active"
_documents = [SimpleNamespace(doc_id="own.md")]
BOTH = SimpleNamespace(small=SimpleNamespace(corpus=SimpleNamespace(documents=_documents)))


def claims(given, key=KEY, *, expiry=True):
    """What a token says, as Qdrant reads it, or nothing."""
    head, _, rest = given.partition(".")
    body, _, signature = rest.partition(".")
    wanted = hmac.digest(key.encode(), f"{head}.{body}".encode(), "sha256")
    if urlsafe_b64decode(signature + "=") != wanted:
        return None
    said = json.loads(urlsafe_b64decode(body + "=="))
    return said if said["exp"] > time.time() or not expiry else None


def honest(given, name):
    """The status for a token and a collection."""
    said = claims(given)
    if said is None:
        return 401
    return 200 if {"collection": name, "access": "r"} in said["access"] else 403


@pytest.fixture
def server():
    """A server whose `judge` says what a token may read."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            name = self.path.split("/")[2]
            status = self.server.judge(self.headers.get("api-key", ""), name)
            point = {"id": 1, "payload": {"doc_id": self.server.holds.get(name, "own.md")}}
            points = [] if name in self.server.empty else [point]
            self.tell(status, {"points": points})

        def do_GET(self):
            names = [*self.server.holds, f"{TENANT}__{GENERATION}"]
            told = {
                "/collections": {"collections": [{"name": name} for name in names]},
                "/aliases": {"aliases": [{"alias_name": ALIAS, "collection_name": OWN}]},
            }
            self.tell(200 if self.headers["api-key"] == KEY else 401, told[self.path])

        def tell(self, status, result):
            body = json.dumps({"result": result}).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.judge, made.empty, made.holds = honest, set(), {OWN: "own.md"}
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()


@pytest.fixture
def context(server, tmp_path):
    admin = tmp_path / "admin.json"
    admin.write_text(json.dumps({"username": "admin", "password": KEY}))

    class Store:
        async def active_generation(self, tenant):
            return SimpleNamespace(id=GENERATION)

        async def close(self):
            pass

    url = f"qdrant://127.0.0.1:{server.server_port}"
    told = SimpleNamespace(vector_db_url=url, credentials={"admin": admin})
    return SimpleNamespace(target=SimpleNamespace(description=told, store=lambda login: Store()))


def leaks(context):
    found = list(_store.of(context).attempts(BOTH))
    assert len(found) == 17  # five tokens, three collections; a collection and an alias of its own
    return {a.way.split(": ")[1] for a in found if a.leaked}


def test_a_server_that_honours_tokens_leaks_nothing(context):
    assert leaks(context) == set()


SIGNED = {"a token of the small tenant", "a token for nothing"}
EXPIRED, FORGED = {"a token that is over"}, {"a token that another key signed"}


def names_ignored(given, name):
    return 200 if claims(given) else 401


def anything_taken(given, name):
    return 200 if given else 401


def expiry_ignored(given, name):
    said = claims(given, expiry=False) or {"access": []}
    return 200 if {"collection": name, "access": "r"} in said["access"] else 403


def open_without(given, name):
    return honest(given, name) if given else 200


@pytest.mark.parametrize(
    ("judge", "leaking"),
    [
        (names_ignored, SIGNED),
        (anything_taken, SIGNED | EXPIRED | FORGED),
        (expiry_ignored, EXPIRED),
        (open_without, {"no token"}),
    ],
)
def test_a_server_that_does_not_is_found(server, context, judge, leaking):
    server.judge = judge
    assert leaks(context) == leaking


def test_a_foreign_passage_under_a_name_of_its_own_is_found(server, context):
    server.holds[ALIAS] = "foreign.md"
    found = {a.way: a.detail for a in _store.of(context).attempts(BOTH) if a.leaked}
    assert found == {
        f"qdrant: a name of the small tenant's: {name}": "1 foreign ['foreign.md']"
        for name in [ALIAS]
    }


def test_a_refusal_of_everything_proves_nothing(server, context):
    server.judge = lambda given, name: 403
    with pytest.raises(ProbeError, match="cannot be read by a token for it: HTTP 403"):
        leaks(context)


def test_a_large_tenant_without_points_proves_nothing(server, context):
    server.empty = {f"{TENANT}__{GENERATION}"}
    with pytest.raises(ProbeError, match=f"{TENANT}__{GENERATION} cannot be read"):
        leaks(context)


def test_a_server_that_is_broken_is_no_verdict(server, context):
    server.judge = lambda given, name: 200 if honest(given, name) == 200 else 500
    with pytest.raises(ProbeError, match="HTTP 500"):
        leaks(context)


def test_without_the_key_nothing_can_be_asked(context):
    context.target.description.credentials = {}
    with pytest.raises(ProbeError, match=r"credentials\.admin"):
        leaks(context)


def test_a_tenant_without_an_index_is_an_error(context):
    class Store:
        async def active_generation(self, tenant):
            raise StoreError("no active generation")

        async def close(self):
            pass

    context.target.store = lambda login: Store()
    with pytest.raises(ProbeError, match=f"tenant {SMALL_TENANT}: no active generation"):
        leaks(context)

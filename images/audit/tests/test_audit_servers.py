"""The audit trail's way on a real Kafka and a real Elasticsearch, through what takes them away."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from conformance.children import free_port
from rag_audit import retention, template
from rag_audit.documents import index_of, now
from rag_audit.elasticsearch import Elasticsearch
from rag_audit.settings import ElasticsearchSettings
from rag_audit.topics import Topic, ensure

from .conftest import record

pytest_plugins = ["conformance.servers.fixture"]
pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]
TODAY = index_of(now())


def account(elasticsearch, name):
    """A client that logs in as `name`."""
    settings = ElasticsearchSettings(
        elasticsearch_url=elasticsearch.url,
        elasticsearch_credentials_file=elasticsearch.login(name),
    )
    return Elasticsearch(settings)


def status(elasticsearch, name, method, path, body=None, lines=None):
    """The status of one call of `name`."""
    login = json.loads(elasticsearch.login(name).read_text())
    content = lines or (json.dumps(body) if body is not None else None)
    kind = "application/x-ndjson" if lines else "application/json"
    return httpx.request(
        method,
        elasticsearch.url + path,
        content=content,
        headers={"content-type": kind},
        auth=(login["username"], login["password"]),
        trust_env=False,
    )


@pytest.fixture(scope="module")
def made(elasticsearch):
    """The index template."""
    with account(elasticsearch, "template") as server:
        server.call("PUT", "/_index_template/audit", template.template(1, 0))


@pytest.fixture
def topics(kafka):
    """A log and a dead-letter topic of the test's own."""
    name = f"audit-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.address})
    declared = [Topic(name, 3, 14), Topic(f"{name}.dead-letter", 1, 90)]
    ensure(admin, declared, replicas=1, in_sync=1)
    return name


def produce(kafka, topic, *values):
    """Messages, each confirmed; keyed like retrieval's."""
    producer = Producer({"bootstrap.servers": kafka.address, "acks": "all"})
    for value in values:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        key = value["request_id"] if isinstance(value, dict) else None
        producer.produce(topic, data, key)
    assert producer.flush(30) == 0


def found(elasticsearch, request_id):
    """What a reader finds under that id."""
    query = {"size": 100, "query": {"term": {"request_id": request_id}}}
    answer = status(elasticsearch, "reader", "POST", "/audit-*/_search", query).json()
    return [hit["_source"] for hit in answer.get("hits", {}).get("hits", [])]


def settle():
    """Until whatever is acknowledged is searchable."""
    time.sleep(1.5)


def until(condition, seconds=60):
    """Wait until the condition holds; its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.2)
    return value


class Process:
    """The indexer as the image runs it."""

    def __init__(self, kafka, elasticsearch, topic, log):
        self.port, self.log = free_port(), log
        self.environment = {
            **os.environ,
            "BIND": f"127.0.0.1:{self.port}",
            "KAFKA_BROKERS": kafka.address,
            "AUDIT_TOPIC": topic,
            "AUDIT_DEAD_LETTER_TOPIC": f"{topic}.dead-letter",
            "AUDIT_GROUP": topic,
            "AUDIT_BATCH_SECONDS": "0.2",
            "AUDIT_BACKOFF_SECONDS": "2",
            "ELASTICSEARCH_URL": elasticsearch.url,
            "ELASTICSEARCH_CREDENTIALS_FILE": str(elasticsearch.login("indexer")),
            "ELASTICSEARCH_TIMEOUT_SECONDS": "5",
        }
        self.process = None

    def start(self):
        code = "import sys; from rag_audit.indexer import main; sys.exit(main())"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code], env=self.environment, stderr=log
            )

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(60)

    def get(self, path):
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False)
        except httpx.HTTPError:
            return httpx.Response(599)

    def value(self, name):
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.fixture
def indexer(kafka, elasticsearch, topics, tmp_path):
    made = Process(kafka, elasticsearch, topics, tmp_path / "indexer.log")
    yield made
    if made.process and made.process.poll() is None:
        made.end(signal.SIGKILL)


def both(n):
    """Intent and completion of a request with every field."""
    full = {
        "tenant": "acme", "user": "ann", "path": "/v1/answer", "query": "How much?",
        "chunks": [{"chunk_id": "a.md#0", "score": 0.5}], "model": "m", "status": None,
        "embedding_model": {"name": "e", "digest": "d"}, "prompt_version": "3",
        "prompt": [{"role": "user", "content": "How much?"}], "response": None, "error": None,
        "guard_verdict": {"flagged": False, "rule": None, "score": 0.01},
        "dropped_passages": [{"chunk_id": "x", "rule": "y"}], "timings_ms": {"total": 1.5},
    }  # fmt: skip
    name = f"{uuid.uuid4()}"
    told = {
        "status": "answered", "response": "Ten.", "model_output": {"sentences": []},
        "decline_reason": None, "dropped_sentences": ["No."], "usage": {"prompt_tokens": 3},
        "error": {"status": 503, "title": "t", "detail": "d"},
    }  # fmt: skip
    return record(name, "intent", **full), record(name, "completion", **full | told)


def test_records_with_every_field_are_found_once(indexer, kafka, elasticsearch, topics, made):
    pairs = [both(n) for n in range(50)]
    produce(kafka, topics, *(r for pair in pairs for r in pair))
    indexer.start()
    until(lambda: indexer.value("audit_indexed_total") == 100)
    until(lambda: indexer.value("audit_lag_records") == 0)
    assert indexer.get("/readyz").status_code == 200
    settle()
    for pair in pairs[:5]:
        said = found(elasticsearch, pair[0]["request_id"])
        assert sorted(said, key=lambda r: r["event"]) == [pair[1], pair[0]]
    assert indexer.end(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_a_log_that_is_read_again_makes_no_second_document(
    indexer, kafka, elasticsearch, topics, made
):
    intent, completion = both(0)
    produce(kafka, topics, intent, completion, intent, completion)
    indexer.start()
    until(lambda: indexer.value("audit_duplicates_total") == 2)
    indexer.end(signal.SIGTERM)
    indexer.start()
    until(lambda: indexer.get("/readyz").status_code == 200)
    time.sleep(3)
    assert indexer.value("audit_lag_records") == 0  # all is committed, nothing was read
    indexer.end(signal.SIGTERM)
    indexer.environment["AUDIT_GROUP"] = f"{topics}-again"  # a group that has read nothing
    indexer.start()
    until(lambda: indexer.value("audit_duplicates_total") == 4)
    settle()
    assert len(found(elasticsearch, intent["request_id"])) == 2


def test_poison_goes_to_the_dead_letter_topic_with_its_reason(
    indexer, kafka, elasticsearch, topics, made
):
    good, _ = both(0)
    strange = both(1)[0] | {"invented": 1}
    wrong = both(2)[0] | {"timings_ms": {"total": "soon"}}
    produce(kafka, topics, b"{torn", strange, wrong, good)
    indexer.start()
    until(lambda: indexer.value("audit_dead_lettered_total") == 3)
    until(lambda: found(elasticsearch, good["request_id"]))
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "t"})
    consumer.assign([TopicPartition(f"{topics}.dead-letter", 0, 0)])
    letters = until(lambda: consumer.consume(3, 5))
    consumer.close()
    reasons = {m.value(): dict(m.headers())["reason"].decode() for m in letters}
    assert "not JSON" in reasons[b"{torn"]
    assert any("strict_dynamic_mapping" in reason for reason in reasons.values())
    assert any("timings_ms.total" in reason for reason in reasons.values())


def test_nothing_is_lost_while_elasticsearch_is_down(indexer, kafka, elasticsearch, topics, made):
    pairs = [both(n) for n in range(20)]
    indexer.start()
    until(lambda: indexer.get("/readyz").status_code == 200)
    elasticsearch.kill()
    produce(kafka, topics, *(r for pair in pairs for r in pair))
    until(lambda: indexer.get("/readyz").status_code == 503)
    assert "elasticsearch" in indexer.get("/readyz").json()["detail"]
    elasticsearch.start()
    until(
        lambda: indexer.value("audit_indexed_total") + indexer.value("audit_duplicates_total") == 40
    )
    settle()
    assert all(len(found(elasticsearch, intent["request_id"])) == 2 for intent, _ in pairs)
    until(lambda: indexer.get("/readyz").status_code == 200)


def test_a_log_that_restarts_before_a_batch_is_committed_is_read_on(
    indexer, kafka, elasticsearch, topics, made
):
    indexer.start()
    until(lambda: indexer.get("/readyz").status_code == 200)
    (at_hand, _), (later, _) = pairs = [both(n) for n in range(2)]
    elasticsearch.pause()
    produce(kafka, topics, *pairs[0])
    time.sleep(1.5)  # the batch waits for the index
    kafka.kill()
    elasticsearch.resume()
    until(lambda: indexer.value("audit_indexed_total") == 2)
    time.sleep(1)  # its commit finds nobody
    kafka.start()
    produce(kafka, topics, *pairs[1])
    until(lambda: len(found(elasticsearch, later["request_id"])) == 2)
    until(lambda: indexer.value("audit_lag_records") == 0)
    assert len(found(elasticsearch, at_hand["request_id"])) == 2


def test_nothing_is_lost_when_the_indexer_is_killed(indexer, kafka, elasticsearch, topics, made):
    pairs = [both(n) for n in range(300)]
    produce(kafka, topics, *(r for pair in pairs for r in pair))
    indexer.environment["AUDIT_BATCH_RECORDS"] = "20"
    for _ in range(3):
        indexer.start()
        time.sleep(2.5)
        indexer.end(signal.SIGKILL)
    indexer.start()
    until(lambda: indexer.get("/readyz").status_code == 200, 90)
    until(lambda: indexer.value("audit_lag_records") == 0, 90)
    settle()
    assert [len(found(elasticsearch, i["request_id"])) for i, _ in pairs] == [2] * 300


def test_without_the_template_records_wait(indexer, kafka, elasticsearch, topics):
    status(elasticsearch, "template", "DELETE", "/_index_template/audit")
    status(elasticsearch, "retention", "DELETE", f"/{TODAY}")
    intent, completion = both(0)
    produce(kafka, topics, intent, completion)
    indexer.start()
    until(lambda: indexer.value("audit_bulk_failures_total") >= 2)
    assert found(elasticsearch, intent["request_id"]) == []
    with account(elasticsearch, "template") as server:
        server.call("PUT", "/_index_template/audit", template.template(1, 0))
    until(lambda: len(found(elasticsearch, intent["request_id"])) == 2)


_BODY = {
    "mine": {"event": "intent"},
    "_mapping": {"properties": {"more": {"type": "keyword"}}},
    "audit": {"index_patterns": ["audit-*"], "template": {}},
}


def test_the_writer_may_append_and_nothing_else(elasticsearch, made):
    line = json.dumps({"create": {"_index": TODAY, "_id": "mine"}}) + "\n"
    lines = line + json.dumps(record("mine")) + "\n"
    said = status(elasticsearch, "indexer", "POST", "/_bulk", lines=lines).json()
    assert said["items"][0]["create"]["status"] in (201, 409)
    changed = json.dumps(record("mine", query="changed"))
    for verb, body in (
        ("index", changed),
        ("update", '{"doc": {"query": "changed"}}'),
        ("delete", ""),
    ):
        action = json.dumps({verb: {"_index": TODAY, "_id": "mine"}})
        lines = "\n".join(x for x in (action, body, "\n") if x)
        said = status(elasticsearch, "indexer", "POST", "/_bulk", lines=lines).json()
        assert said["items"][0][verb]["status"] == 403
    refused = [
        ("GET", f"/{TODAY}/_search"), ("GET", f"/{TODAY}/_doc/mine"), ("DELETE", f"/{TODAY}"),
        ("PUT", f"/{TODAY}/_doc/mine"), ("DELETE", f"/{TODAY}/_doc/mine"), ("POST", f"/{TODAY}/_close"),
        ("PUT", f"/{TODAY}/_mapping"), ("PUT", "/_index_template/audit"), ("PUT", "/other"),
    ]  # fmt: skip
    for method, path in refused:
        body = _BODY.get(path.split("/")[-1]) if method == "PUT" else None
        answer = status(elasticsearch, "indexer", method, path, body)
        assert answer.status_code == 403, (method, path, answer.text)


def test_retention_may_delete_days_and_read_nothing(elasticsearch, made):
    old = "audit-2025.01.01"
    line = json.dumps({"create": {"_index": old, "_id": "old"}}) + "\n"
    status(
        elasticsearch, "indexer", "POST", "/_bulk", lines=line + json.dumps(record("old")) + "\n"
    )
    assert status(elasticsearch, "retention", "GET", f"/{old}/_search").status_code == 403
    assert status(elasticsearch, "retention", "PUT", f"/{old}/_doc/x", {}).status_code == 403
    assert status(elasticsearch, "retention", "DELETE", "/audit-*").status_code in (400, 403)
    assert (
        status(
            elasticsearch, "retention", "PUT", "/_index_template/audit", _BODY["audit"]
        ).status_code
        == 403
    )
    with account(elasticsearch, "retention") as server:
        assert retention.delete(server, 30, now()) == [old]
    names = status(elasticsearch, "reader", "GET", "/audit-*/_alias").json()
    assert old not in names and TODAY in names


def test_template_and_reader_have_nothing_else(elasticsearch, made):
    assert status(elasticsearch, "template", "GET", "/audit-*/_search").status_code == 403
    assert status(elasticsearch, "template", "DELETE", f"/{TODAY}").status_code == 403
    assert status(elasticsearch, "reader", "DELETE", f"/{TODAY}").status_code == 403
    assert status(elasticsearch, "reader", "PUT", f"/{TODAY}/_doc/x", {}).status_code == 403
    assert httpx.get(f"{elasticsearch.url}/audit-*/_search", trust_env=False).status_code == 401


def _logged(elasticsearch, name, identifier, verb="create", at="2026-11-29T12:00:00.123456789Z"):
    """The status of one line of a container in the logs, as Fluent Bit sends it."""
    line = {"@timestamp": at, "log": "x", "fields": {"status": 200, "a": {"b": "c"}}}
    line["kubernetes"] = {"namespace_name": "rag-gateway", "pod_name": "gateway-1"}
    action = json.dumps({verb: {"_index": "rag-logs", "_id": identifier}})
    lines = f"{action}\n{json.dumps(line)}\n"
    said = status(elasticsearch, name, "POST", "/_bulk", lines=lines).json()
    return said["items"][0][verb]["status"]


def test_a_reviewer_reads_records_and_changes_none(elasticsearch, made):
    assert status(elasticsearch, "reviewer", "GET", "/audit-*/_search").status_code == 200
    for method, path in (("PUT", f"/{TODAY}/_doc/x"), ("DELETE", f"/{TODAY}")):
        answer = status(elasticsearch, "reviewer", method, path, {} if method == "PUT" else None)
        assert answer.status_code == 403, path
    assert status(elasticsearch, "reviewer", "GET", "/rag-logs/_search").status_code == 403
    # Who puts what Kibana shows sees no record; that it is known at all, the first answer tells.
    assert status(elasticsearch, "review", "GET", "/_security/_authenticate").status_code == 200
    assert status(elasticsearch, "review", "GET", "/audit-*/_search").status_code == 403


def test_the_account_of_the_lifecycle_deletes_days_and_changes_no_record(elasticsearch, made):
    old = "audit-2025.01.02"
    line = json.dumps({"create": {"_index": old, "_id": "old"}}) + "\n"
    lines = line + json.dumps(record("old")) + "\n"
    status(elasticsearch, "indexer", "POST", "/_bulk", lines=lines)
    refused = [
        ("GET", f"/{old}/_search", None),
        ("PUT", f"/{old}/_doc/x", {}),
        ("DELETE", f"/{old}/_doc/old", None),
        ("PUT", "/_index_template/audit", _BODY["audit"]),
    ]
    for method, path, body in refused:
        answer = status(elasticsearch, "lifecycle", method, path, body)
        assert answer.status_code == 403, path
    assert status(elasticsearch, "lifecycle", "DELETE", f"/{old}").status_code == 200


def test_logs_are_appended_once_and_the_server_deletes_them(elasticsearch, made):
    assert _logged(elasticsearch, "fluent-bit", "early") in (403, 404)  # no template yet
    with account(elasticsearch, "template") as server:
        server.call("PUT", "/_index_template/rag-logs", template.logs(0, 30))
    assert _logged(elasticsearch, "fluent-bit", "one") == 201
    assert _logged(elasticsearch, "fluent-bit", "one") == 409
    assert _logged(elasticsearch, "fluent-bit", "one", "index") in (400, 403)
    assert _logged(elasticsearch, "indexer", "two") == 403
    settle()
    query = {"query": {"bool": {"filter": [{"term": {"kubernetes.pod_name": "gateway-1"}}]}}}
    query["query"]["bool"]["filter"].append({"term": {"fields.a.b": "c"}})
    hits = status(elasticsearch, "operator", "POST", "/rag-logs/_search", query).json()["hits"]
    assert [hit["_id"] for hit in hits["hits"]] == ["one"]
    (part,) = status(elasticsearch, "operator", "GET", "/rag-logs/_mapping").json()
    assert part.startswith(".ds-rag-logs-")
    with account(elasticsearch, "template") as server:
        (kept,) = server.call("GET", "/_index_template/rag-logs")["index_templates"]
    assert kept["index_template"]["template"]["lifecycle"]["data_retention"] == "30d"
    for name in ("fluent-bit", "reader"):
        assert status(elasticsearch, name, "GET", "/rag-logs/_search").status_code == 403
    assert status(elasticsearch, "fluent-bit", "GET", f"/{TODAY}/_search").status_code == 403
    assert status(elasticsearch, "fluent-bit", "DELETE", f"/{part}").status_code == 403


def test_topics_are_made_once_and_brought_in_step(kafka):
    admin = AdminClient({"bootstrap.servers": kafka.address})
    name = f"t-{uuid.uuid4().hex[:8]}"
    ensure(admin, [Topic(name, 1, 1)], 1, 1)
    ensure(admin, [Topic(name, 3, 2)], 1, 1)
    resource = ConfigResource(ResourceType.TOPIC, name)
    settings = admin.describe_configs([resource])[resource].result(10)
    assert settings["retention.ms"].value == str(2 * 86_400_000)
    assert settings["unclean.leader.election.enable"].value == "false"
    assert until(lambda: len(admin.list_topics(timeout=10).topics[name].partitions) == 3)

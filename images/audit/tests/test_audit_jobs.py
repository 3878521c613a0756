"""Template, retention and topics: what is asked for, and what is refused."""

import argparse
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from rag_audit import documents, indexer, lifecycle, retention, template, topics
from rag_audit.elasticsearch import Elasticsearch
from rag_audit.errors import AuditError, UnavailableError
from rag_audit.settings import RetentionSettings, load

AT = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture
def environment(monkeypatch, credentials):
    """A server that is not there."""
    monkeypatch.setenv("ELASTICSEARCH_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ELASTICSEARCH_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AUDIT_RETENTION_DAYS", "30")


def test_the_template_is_strict_and_lets_the_server_make_indices():
    made = template.template(2, 1)
    assert made["template"]["mappings"]["dynamic"] == "strict"
    assert made["allow_auto_create"] is True and made["index_patterns"] == ["audit-*"]
    settings = made["template"]["settings"]["index"]
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == (2, 1)


def test_a_day_ages_by_its_name_where_the_server_has_policies():
    settings = template.template(1, 1, lifecycle=True)["template"]["settings"]["index"]
    assert settings["lifecycle"] == {"name": lifecycle.NAME, "parse_origination_date": True}
    assert "lifecycle" not in template.template(1, 1)["template"]["settings"]["index"]


def test_the_policy_keeps_a_day_as_long_as_the_job_that_deletes(environment, monkeypatch):
    asked = []
    monkeypatch.setattr(Elasticsearch, "call", lambda self, *call: asked.append(call))
    assert lifecycle.main() == 0
    ((method, path, body),) = asked
    assert (method, path) == ("PUT", "/_ilm/policy/audit")
    phase = body["policy"]["phases"]["delete"]
    age = timedelta(days=int(phase["min_age"].removesuffix("d")))
    names = [f"audit-{AT - timedelta(days=n):%Y.%m.%d}" for n in range(40)]
    by_policy = [n for n in names if AT - documents.day_of(n) >= age]
    assert sorted(by_policy) == retention.expired(names, 30, AT) and phase["actions"] == {
        "delete": {}
    }


def test_the_logs_template_is_put_where_logs_are_kept(environment, monkeypatch):
    asked = []
    monkeypatch.setattr(Elasticsearch, "call", lambda self, *call: asked.append(call))
    assert template.main() == 0
    assert [path for _, path, _ in asked] == ["/_index_template/audit"]
    monkeypatch.setenv("LOGS_RETENTION_DAYS", "30")
    assert template.main() == 0
    _, path, body = asked[-1]
    assert path == "/_index_template/rag-logs"
    assert body["template"]["lifecycle"] == {"data_retention": "30d"}
    assert body["template"]["settings"]["index"]["number_of_replicas"] == 1


def test_a_day_is_kept_until_its_last_moment_is_old_enough():
    names = ["audit-2026.11.19", "audit-2026.11.18", "audit-2026.11.17", "audit-keep", "other"]
    assert retention.expired(names, 10, AT) == ["audit-2026.11.17", "audit-2026.11.18"]


def test_only_expired_days_are_deleted_one_by_one(settings):
    asked = []

    def answer(request):
        asked.append((request.method, request.url.path))
        found = {"audit-2026.01.01": {}, "audit-2026.01.02": {}, "audit-2026.11.29": {}}
        return httpx.Response(200, json=found)

    with Elasticsearch(settings, httpx.MockTransport(answer)) as server:
        gone = retention.delete(server, 30, AT)
    assert gone == ["audit-2026.01.01", "audit-2026.01.02"]
    assert asked[0] == ("GET", "/audit-*/_alias")
    assert asked[1:] == [("DELETE", "/audit-2026.01.01"), ("DELETE", "/audit-2026.01.02")]


@pytest.mark.parametrize(("status", "kind"), [(503, UnavailableError), (400, AuditError)])
def test_a_refusal_says_what_and_why(settings, status, kind):
    def answer(_):
        return httpx.Response(status, text="the reason")

    said = rf"DELETE /x: {status} the reason"
    with (
        Elasticsearch(settings, httpx.MockTransport(answer)) as server,
        pytest.raises(kind, match=said),
    ):
        server.call("DELETE", "/x")


def test_the_login_is_read_for_each_call(settings, credentials):
    seen = []

    def answer(request):
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json={})

    with Elasticsearch(settings, httpx.MockTransport(answer)) as server:
        server.call("GET", "/")
        credentials.write_text(json.dumps({"username": "indexer", "password": "rotated"}))
        server.call("GET", "/")
        credentials.unlink()
        with pytest.raises(UnavailableError, match=r"login\.json"):
            server.call("GET", "/")
    assert len(set(seen)) == 2


@pytest.mark.parametrize("job", [template, retention, lifecycle])
def test_a_job_without_its_server_fails_with_the_reason(job, environment, capsys):
    assert job.main() == 1
    assert "elasticsearch" in capsys.readouterr().err


def test_a_missing_setting_is_named(environment, monkeypatch, capsys):
    monkeypatch.setenv("AUDIT_RETENTION_DAYS", "0")
    with pytest.raises(SystemExit, match="2"):
        load(RetentionSettings, "rag-audit-retention")
    assert "AUDIT_RETENTION_DAYS" in capsys.readouterr().err


def test_a_bad_address_of_the_indexer_is_named(environment, monkeypatch, capsys):
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    monkeypatch.setenv("BIND", "nowhere")
    assert indexer.main() == 2
    assert "BIND" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["audit", "audit:3", "audit:0:7", "a/b:1:1", "audit:3:0"])
def test_a_topic_is_declared_in_full(text):
    with pytest.raises(argparse.ArgumentTypeError, match="NAME:PARTITIONS:DAYS"):
        topics.declared(text)


def test_a_topic_is_never_led_by_a_replica_that_lacks_records():
    settings = topics.declared("audit:3:14").settings(2)
    assert settings["unclean.leader.election.enable"] == "false"
    assert settings["min.insync.replicas"] == "2" and settings["retention.ms"] == "1209600000"


def test_without_a_broker_the_topics_job_fails(monkeypatch, capsys):
    words = ["rag-audit-topics", "--brokers", "127.0.0.1:1", "audit:3:14"]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(topics, "_SECONDS", 0.5)
    assert topics.main() == 1
    assert "kafka" in capsys.readouterr().err

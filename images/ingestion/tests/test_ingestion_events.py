"""Events of the object store: what they mean, what is tried again, what is put aside."""

import json

import pytest
from pydantic import ValidationError

from rag_ingestion.errors import Reason, SetAside, SourceError
from rag_ingestion.events import main as command
from rag_ingestion.events.brokers import open_broker
from rag_ingestion.events.handler import Handler
from rag_ingestion.events.metrics import Metrics
from rag_ingestion.events.notification import Change, PoisonError, changes
from rag_ingestion.events.settings import EventSettings
from rag_ingestion.one import ingest_one
from rag_ingestion.report import Report
from rag_ingestion.sync import ingest
from rag_store.base import IndexBusyError, UnknownTenantError

BUCKET = "s3://documents"


def event(*keys, name="ObjectCreated:Put", bucket="documents"):
    records = [
        {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}}
        for key in keys
    ]
    return json.dumps({"Records": records}).encode()


def test_a_notification_names_tenant_source_and_key():
    assert changes(event("acme/hr/a+b%C3%BC.md"), BUCKET) == [
        Change("acme", "s3://documents/acme", "hr/a bü.md")
    ]


def test_creation_and_removal_both_mean_look_at_it_now():
    for name in ("ObjectRemoved:Delete", "s3:ObjectCreated:CompleteMultipartUpload"):
        assert len(changes(event("acme/a.md", name=name), BUCKET)) == 1


def test_other_events_and_repetitions_mean_nothing_more():
    assert changes(event("acme/a.md", name="ObjectTagging:Put"), BUCKET) == []
    assert changes(b'{"Event": "s3:TestEvent"}', BUCKET) == []
    assert len(changes(event("acme/a.md", "acme/a.md", "acme/b.md"), BUCKET)) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{torn", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "no Records"),
        (b'{"Records": [1]}', "without event name"),
        (b'{"Records": [{"eventName": "ObjectCreated:Put"}]}', "without event name"),
        (event("acme/%FF.md"), "without event name"),
        (event("acme/a.md", bucket="other"), "not below"),
        (event("top.md"), "no tenant"),
        (event("acme/"), "no tenant"),
        (event("Not A Tenant/a.md"), "Not A Tenant"),
    ],
)
def test_what_cannot_be_used_is_poison(body, reason):
    with pytest.raises(PoisonError, match=reason):
        changes(body, BUCKET)


@pytest.fixture
def event_settings(settings):
    own = {"events_url": "kafka://127.0.0.1:1", "events_retry_seconds": 0.01}
    return EventSettings(**settings.model_dump(), **own)


class Calls:
    """Answers what the test put there; an exception is raised."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    async def __call__(self, *what):
        self.asked.append(what)
        answer = self.answers.pop(0) if self.answers else Report("acme", "s")
        if isinstance(answer, Exception):
            raise answer
        return answer


def count(metrics, outcome):
    return metrics.registry.get_sample_value("ingest_events_total", {"outcome": outcome})


async def test_a_message_is_done_when_all_its_documents_are(event_settings):
    letters, done, metrics = Calls(), Calls(), Metrics()
    handler = Handler(event_settings, letters, metrics, done)
    await handler(event("acme/a.md", "acme/b.md"))
    assert [change.key for (change,) in done.asked] == ["a.md", "b.md"]
    assert count(metrics, "ingested") == 2 and letters.asked == []


async def test_a_failure_is_tried_again_and_then_left_to_a_later_delivery(event_settings):
    patient = event_settings.model_copy(update={"events_retry_seconds": 30.0})
    busy, metrics = Calls(IndexBusyError("busy"), SourceError("down")), Metrics()
    handler = Handler(patient, Calls(), metrics, busy)
    await handler(event("acme/a.md"))
    assert len(busy.asked) == 3 and count(metrics, "retried") == 2 and handler.reason is None
    letters = Calls()
    handler = Handler(event_settings, letters, metrics, Calls(SourceError("down")))
    with pytest.raises(SourceError):
        await handler(event("acme/a.md"))
    assert handler.reason == "down" and letters.asked == []


@pytest.mark.parametrize("failure", [None, UnknownTenantError("acme")])
async def test_poison_is_put_aside_with_its_reason(event_settings, failure):
    letters, metrics = Calls(), Metrics()
    body = event("acme/a.md") if failure else b"{torn"
    await Handler(event_settings, letters, metrics, Calls(failure))(body)
    ((kept, reason),) = letters.asked
    assert kept == body and (("acme" in reason) if failure else ("not JSON" in reason))
    assert count(metrics, "dead-letter") == 1


async def test_what_cannot_be_put_aside_is_not_dealt_with(event_settings):
    with pytest.raises(ConnectionError):
        await Handler(event_settings, Calls(ConnectionError("down")), Metrics(), Calls())(b"{torn")


async def test_a_document_that_cannot_be_read_is_no_poison(event_settings):
    report, metrics = Report("acme", "s"), Metrics()
    report.set_aside.append(SetAside("s3://x", Reason.CORRUPT, "broken"))
    letters = Calls()
    await Handler(event_settings, letters, metrics, Calls(report))(event("acme/a.pdf"))
    assert count(metrics, "set-aside") == 1 and letters.asked == []


@pytest.mark.parametrize("url", ["http://x", "kafka://", "amqp://user:secret@host/"])
def test_an_address_of_another_kind_or_with_a_password_is_refused(settings, url):
    with pytest.raises(ValidationError, match="events_url"):
        EventSettings(**settings.model_dump(), events_url=url)


def test_a_wrong_setting_ends_the_command(monkeypatch, capsys):
    monkeypatch.setenv("EVENTS_URL", "http://x")
    assert command.main() == 2
    assert "EVENTS_URL" in capsys.readouterr().err


def test_a_login_that_is_not_there_ends_the_command(event_settings, tmp_path):
    changed = event_settings.model_copy(update={"events_credentials_file": tmp_path / "none"})
    with pytest.raises(Exception, match="none"):
        open_broker(changed)


@pytest.fixture
async def indexed(folder, settings, memory):
    """A source of three documents, in step with the index."""
    for name in ("a", "b", "c"):
        (folder / f"{name}.md").write_text(f"content of {name}")
    await ingest(str(folder), "acme", settings, store=memory)
    memory.upserts.clear()
    memory.synced = None
    return folder


async def test_one_document_is_written_and_nothing_else_is_touched(indexed, settings, memory):
    (indexed / "b.md").write_text("another content")
    (indexed / "c.md").unlink()
    report = await ingest_one(str(indexed), "b.md", "acme", settings, store=memory)
    assert (report.changed, report.deleted) == (1, 0)
    assert memory.upserts == ["b.md"] and set(memory.active) == {"a.md", "b.md", "c.md"}
    assert memory.synced is None and memory.optimized == 1
    again = await ingest_one(str(indexed), "b.md", "acme", settings, store=memory)
    assert again.unchanged == 1 and memory.upserts == ["b.md"]


async def test_one_document_that_is_gone_leaves_the_index(indexed, settings, memory):
    (indexed / "c.md").unlink()
    report = await ingest_one(str(indexed), "c.md", "acme", settings, store=memory)
    assert report.deleted == 1 and set(memory.active) == {"a.md", "b.md"}
    again = await ingest_one(str(indexed), "c.md", "acme", settings, store=memory)
    assert again.deleted == 0


async def test_the_same_content_under_another_name_is_set_aside(indexed, settings, memory):
    (indexed / "d.md").write_text("content of a")
    report = await ingest_one(str(indexed), "d.md", "acme", settings, store=memory)
    assert [entry.reason for entry in report.set_aside] == ["duplicate"]
    assert "d.md" not in memory.active


async def test_one_document_waits_for_no_other_writer(indexed, settings, memory):
    async with memory.exclusive("acme"):
        with pytest.raises(IndexBusyError):
            await ingest_one(str(indexed), "a.md", "acme", settings, store=memory)


async def test_without_an_index_one_document_brings_all(folder, settings, memory):
    for name in ("a", "b"):
        (folder / f"{name}.md").write_text(f"content of {name}")
    report = await ingest_one(str(folder), "a.md", "acme", settings, store=memory)
    assert report.added == 2 and memory.synced is not None


async def test_a_new_model_is_left_to_a_whole_sync(indexed, settings, memory, embedder):
    embedder.digest = "model-2"
    report = await ingest_one(str(indexed), "a.md", "acme", settings, store=memory)
    assert report.written == 3 or report.unchanged == 0
    assert set(memory.active) == {"a.md", "b.md", "c.md"}

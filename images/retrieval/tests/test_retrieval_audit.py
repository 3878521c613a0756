"""The audit trail: complete, durable first, closed when it cannot be written."""

import asyncio
import json
import os
import stat
import time

import pytest

from rag_common.tenancy import HEADER, TenantClaims
from rag_retrieval.audit import AuditTrail, Spool, open_sink, read
from rag_retrieval.audit import segment as segments
from rag_retrieval.errors import AuditError, SettingsError
from rag_retrieval.metrics import Metrics

FIELDS = {
    "event", "request_id", "tenant", "user", "time", "path", "query", "chunks", "model",
    "prompt_version", "prompt", "response", "status", "guard_verdict", "timings_ms",
}  # fmt: skip


def line(number):
    return json.dumps({"n": number}).encode() + b"\n"


async def put(spool, *numbers):
    await asyncio.gather(*(spool.submit(line(n)) for n in numbers))


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "audit")
    yield made
    made.close()


def test_both_records_of_a_retrieval_have_every_field(service):
    body = service.retrieve().json()
    intent, completion = service.records()
    assert set(intent) >= FIELDS and set(completion) >= FIELDS
    assert (intent["event"], completion["event"]) == ("intent", "completion")
    assert intent["request_id"] == completion["request_id"] == body["request_id"]
    assert (completion["tenant"], completion["user"], completion["status"]) == ("acme", "ann", "ok")
    assert completion["guard_verdict"] == {"flagged": False}
    assert [c["chunk_id"] for c in completion["chunks"]] == [r["chunk_id"] for r in body["results"]]
    assert completion["timings_ms"]["total"] > 0
    assert intent["time"] <= completion["time"]


def test_an_answer_is_recorded_with_prompt_and_response(service):
    service.answer()
    intent, completion = service.records()
    assert "25 days of paid leave" in json.dumps(intent["prompt"])
    assert completion["status"] == "answered"
    assert completion["response"] == "Employees receive 25 days of paid leave per year."
    assert completion["model"] == "toy-llm"
    assert completion["embedding_model"]["name"] == "toy"


def test_failures_are_recorded_once_each(service, store):
    store.down = True
    service.retrieve()
    service.answer()
    assert [r["event"] for r in service.records()] == ["intent", "completion"] * 2
    assert {r["status"] for r in service.records("completion")} == {"failed"}
    assert service.records("completion")[0]["error"]["status"] == 503


@pytest.mark.parametrize("path", ["retrieve", "answer"])
def test_when_the_spool_fails_nothing_is_told(service, path, monkeypatch):
    def broken(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments.os, "fdatasync", broken)
    answer = getattr(service, path)()
    assert answer.status_code == 503
    assert answer.json()["title"] == "Audit unavailable"
    assert "leave" not in answer.text
    assert service.metric("rag_audit_failures_total") >= 1
    monkeypatch.undo()
    assert getattr(service, path)().status_code == 200


def test_a_stream_ends_in_an_error_when_its_completion_cannot_be_kept(service, peers, monkeypatch):
    peers.llm.pause = 0.5
    real, calls = os.fdatasync, []

    def breaks_later(handle):
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(5, "Input/output error")
        real(handle)

    monkeypatch.setattr(segments.os, "fdatasync", breaks_later)
    text = service.answer(stream=True).text
    assert "event: error" in text and "event: done" not in text


async def test_a_line_is_on_disk_when_its_future_is_done(spool, tmp_path):
    await put(spool, 1)
    assert [r["n"] for r in read(spool.directory)] == [1]
    (path,) = spool.directory.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name.startswith("audit-") and f"-{os.getpid()}-1.jsonl" in path.name


async def test_many_waiting_lines_share_one_fsync(spool, monkeypatch):
    real, calls = os.fdatasync, []

    def slow(handle):
        calls.append(handle)
        time.sleep(0.05)
        real(handle)

    monkeypatch.setattr(segments.os, "fdatasync", slow)
    await put(spool, *range(100))
    assert len(calls) <= 3
    assert sorted(r["n"] for r in read(spool.directory)) == list(range(100))


async def test_segments_rotate_by_size(tmp_path):
    spool = Spool(tmp_path, segment_bytes=30)
    for number in range(10):
        await put(spool, number)
    spool.close()
    assert len(list(tmp_path.iterdir())) > 2
    assert [r["n"] for r in read(tmp_path)] == list(range(10))


async def test_segments_rotate_by_age(tmp_path):
    spool = Spool(tmp_path, segment_seconds=0.0)
    await put(spool, 1)
    await put(spool, 2)
    spool.close()
    assert len(list(tmp_path.iterdir())) == 2


async def test_a_failed_write_leaves_no_trace_and_the_next_one_works(spool, monkeypatch):
    await put(spool, 1)
    monkeypatch.setattr(segments.os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError("no")))
    with pytest.raises(AuditError):
        await put(spool, 2)
    monkeypatch.undo()
    await put(spool, 3)
    assert [r["n"] for r in read(spool.directory)] == [1, 3]


async def test_a_torn_last_line_is_cut_at_the_next_start(tmp_path):
    spool = Spool(tmp_path)
    await put(spool, 1)
    spool.close()
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"n": 2, "half')
    assert [r["n"] for r in read(tmp_path)] == [1]
    Spool(tmp_path).close()
    assert path.read_bytes() == line(1)


async def test_a_segment_another_process_has_open_is_not_repaired(spool):
    await put(spool, 1)
    (path,) = spool.directory.iterdir()
    with path.open("ab") as file:
        file.write(b"still being written")
    assert segments.repair(path) == 0


def test_a_file_without_any_newline_is_emptied(tmp_path):
    path = tmp_path / "audit-x.jsonl"
    path.write_bytes(b"x" * 200_000)
    assert segments.repair(path) == 200_000
    assert path.read_bytes() == b""


def test_a_damaged_line_inside_a_segment_is_an_error(tmp_path):
    (tmp_path / "audit-x.jsonl").write_bytes(b'{"n": 1}\n{broken\n{"n": 3}\n')
    with pytest.raises(AuditError, match=r"audit-x\.jsonl:2"):
        list(read(tmp_path))


async def test_a_closed_spool_refuses(spool):
    spool.close()
    with pytest.raises(AuditError):
        await put(spool, 1)


async def test_what_is_queued_is_written_on_close(tmp_path):
    spool = Spool(tmp_path)
    waiting = [spool.submit(line(n)) for n in range(20)]
    spool.close()
    await asyncio.gather(*waiting)
    assert len(list(read(tmp_path))) == 20


@pytest.mark.parametrize(
    "sink", ["kafka://x/t", "kafka://x:1", "kafka://x:1/a/b", "file://host/dir", "/dir", "file://"]
)
def test_another_kind_of_sink_is_refused(sink):
    with pytest.raises(SettingsError, match="AUDIT_SINK"):
        open_sink(sink, segment_bytes=1, segment_seconds=1, timeout_seconds=1)


def test_a_sink_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="AUDIT_SINK"):
        open_sink(
            f"file://{tmp_path}/file/dir", segment_bytes=1, segment_seconds=1, timeout_seconds=1
        )


async def test_a_cancelled_request_does_not_lose_its_records(spool):
    claims = TenantClaims("acme", "ann", "r1", {})
    trail = AuditTrail(spool, Metrics(), claims, "/v1/answer", "q")
    task = asyncio.create_task(trail.completion("aborted", {}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await put(spool, 1)
    assert [r.get("event") for r in read(spool.directory)] == ["intent", "completion", None]


async def test_a_completion_is_written_once(spool):
    claims = TenantClaims("acme", "ann", "r1", {})
    trail = AuditTrail(spool, Metrics(), claims, "/v1/answer", "q")
    await trail.completion("answered", {})
    await trail.completion("aborted", {})
    assert [r["status"] for r in read(spool.directory)] == [None, "answered"]


async def test_a_record_that_is_not_json_is_an_audit_error(spool):
    trail = AuditTrail(spool, Metrics(), TenantClaims("acme", "ann", "r1", {}), "/", "q")
    trail.note(prompt=object())
    with pytest.raises(AuditError):
        await trail.intent()


async def test_a_segment_that_fails_twice_does_not_end_the_writer(spool, monkeypatch):
    def broken(*_, **__):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(segments.os, "fdatasync", broken)
    monkeypatch.setattr(segments.os, "ftruncate", broken)
    monkeypatch.setattr(segments.Path, "unlink", broken)
    with pytest.raises(AuditError):
        await put(spool, 1)
    monkeypatch.undo()
    await spool.ready()
    await put(spool, 2)
    assert [r["n"] for r in read(spool.directory)][-1] == 2


async def test_any_failure_is_told_to_those_who_wait(spool, monkeypatch):
    monkeypatch.setattr(segments.Segment, "append", lambda *_: 1 / 0)
    with pytest.raises(AuditError, match="division"):
        await put(spool, 1)
    monkeypatch.undo()
    await put(spool, 2)


async def test_a_segment_that_cannot_be_made_leaves_no_open_file(spool, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(segments, "sync_directory", broken)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        with pytest.raises(AuditError):
            await put(spool, number)
    assert len(os.listdir("/proc/self/fd")) < before + 20
    assert not list(spool.directory.iterdir())


def test_without_a_writer_the_service_is_not_ready_and_refuses(service):
    spool = service.parts.sink
    spool._queue.put(None)
    spool._thread.join()
    ready = service.client.get("/readyz")
    assert ready.status_code == 503 and "audit: the writer has ended" in ready.json()["detail"]
    assert service.retrieve().status_code == 503


def test_a_stream_that_breaks_off_is_recorded_with_its_sentences(service, peers):
    said = "Employees receive 25 days of paid leave per year."
    peers.llm.sentences, peers.llm.pause = [(said, ["S1"])] * 40, 0.3
    sent = {"question": "How many days of paid leave do employees receive?", "stream": True}
    headers = {HEADER: service.token("acme")}
    with service.client.stream("POST", "/v1/answer", json=sent, headers=headers) as answer:
        for text in answer.iter_lines():
            if text == "event: sentence":
                break
    end = time.monotonic() + 10
    while not service.records("completion"):
        assert time.monotonic() < end
        time.sleep(0.02)
    (completion,) = service.records("completion")
    assert completion["status"] == "aborted" and completion["response"].startswith(said)

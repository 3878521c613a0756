"""The index equals the source, whatever happened before."""

import os
from pathlib import Path

import pytest

from rag_ingestion.errors import Reason, SourceError, SuspiciousSourceError
from rag_ingestion.report import Progress, Report
from rag_ingestion.settings import Settings
from rag_ingestion.sync import ingest
from rag_store.base import GenerationState, IndexBusyError, StoreUnavailableError

TENANT = "bank"


@pytest.fixture
def sync(folder, settings, memory):
    async def run(**options) -> Report:
        return await ingest(str(folder), TENANT, settings, store=memory, **options)

    return run


def counts(report: Report) -> tuple[int, int, int, int]:
    return report.added, report.changed, report.deleted, report.unchanged


async def test_adds_then_leaves_alone(sync, folder, memory, embedder):
    (folder / "b").mkdir()
    (folder / "a.md").write_text("# Alpha\n\nThe limit is 500 euros.\n")
    (folder / "b" / "c.txt").write_text("Plain words.")
    report = await sync()
    assert counts(report) == (2, 0, 0, 0)
    assert report.chunks == 2
    document, [embedded] = memory.active["a.md"]
    assert document.title == "Alpha"
    assert document.uri == (folder / "a.md").as_uri()
    assert embedded.chunk.chunk_id == "a.md#0"
    assert embedded.late
    assert sorted(embedder.texts) == ["Alpha\nThe limit is 500 euros.", "c\nPlain words."]
    assert memory.synced.documents == memory.synced.chunks == 2

    again = await sync()
    assert counts(again) == (0, 0, 0, 2)
    assert len(embedder.texts) == 2
    assert len(memory.upserts) == 2


async def test_touch_is_no_change(sync, folder, memory):
    (folder / "a.md").write_text("same")
    await sync()
    os.utime(folder / "a.md", (1, 1))
    assert counts(await sync()) == (0, 0, 0, 1)


async def test_change_and_deletion(sync, folder, memory):
    (folder / "a.md").write_text("one")
    (folder / "b.md").write_text("two")
    await sync()
    (folder / "a.md").write_text("three")
    (folder / "b.md").unlink()
    assert counts(await sync()) == (0, 1, 1, 0)
    assert [row[1][0].chunk.text for row in memory.active.values()] == ["three"]


async def test_other_chunk_settings_make_everything_anew(sync, folder, settings, memory):
    (folder / "a.md").write_text("words " * 100)
    await sync()
    smaller = settings.model_copy(update={"chunk_tokens": 50})
    report = await ingest(str(folder), TENANT, smaller, store=memory)
    assert counts(report) == (0, 1, 0, 0)
    assert report.chunks == 3


async def test_sets_aside_and_goes_on(sync, folder):
    (folder / "a.md").write_text("good")
    (folder / "b.md").write_text("   \n")
    (folder / "c.bin").write_bytes(b"\x00\x01")
    (folder / "d.pdf").write_bytes(b"%PDF-1.7 cut off")
    (folder / "e.md").write_text("good")
    (folder / "f.txt").write_bytes(b"\xff\xfe\xfa\x00\x9f" * 9)
    report = await sync()
    reasons = {Path(entry.uri).name: entry.reason for entry in report.set_aside}
    assert reasons == {
        "b.md": Reason.EMPTY,
        "c.bin": Reason.UNSUPPORTED,
        "d.pdf": Reason.CORRUPT,
        "e.md": Reason.DUPLICATE,
        "f.txt": Reason.ENCODING,
    }
    assert counts(report) == (1, 0, 0, 0)


async def test_too_large_is_not_even_read(sync, folder):
    with (folder / "big.txt").open("wb") as file:
        file.truncate(50_000_000)
    (folder / "a.md").write_text("good")
    report = await sync()
    assert [(e.reason, e.detail) for e in report.set_aside] == [
        (Reason.TOO_LARGE, "50.0 MB; INGEST_MAX_DOCUMENT_MB is 32")
    ]


async def test_an_unreadable_new_version_keeps_the_last_good_one(sync, folder, memory):
    (folder / "a.json").write_text('{"a": 1}')
    await sync()
    (folder / "a.json").write_text('{"a": ')
    report = await sync()
    assert counts(report) == (0, 0, 0, 0)
    assert report.set_aside[0].detail.endswith("the version indexed before stays")
    assert memory.active["a.json"][1][0].chunk.text == '{"a": 1}'


async def test_an_emptied_document_leaves_the_index(sync, folder, memory):
    (folder / "a.md").write_text("text")
    (folder / "b.md").write_text("more")
    await sync()
    (folder / "a.md").write_text("")
    assert counts(await sync()) == (0, 0, 1, 1)
    assert set(memory.active) == {"b.md"}


async def test_the_first_of_two_equal_documents_is_indexed(sync, folder, memory):
    (folder / "b.md").write_text("same")
    await sync()
    (folder / "a.md").write_text("same")
    report = await sync()
    assert counts(report) == (1, 0, 1, 0)
    assert set(memory.active) == {"a.md"}


async def test_refuses_to_empty_the_index(sync, folder, memory):
    (folder / "a.md").write_text("text")
    await sync()
    (folder / "a.md").unlink()
    with pytest.raises(SuspiciousSourceError, match="--allow-empty"):
        await sync()
    assert set(memory.active) == {"a.md"}
    assert counts(await sync(allow_empty=True)) == (0, 0, 1, 0)
    assert memory.active == {}


async def test_a_missing_source_deletes_nothing(sync, folder, memory):
    (folder / "a.md").write_text("text")
    await sync()
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(SourceError, match="no such directory"):
        await sync(allow_empty=True)
    assert set(memory.active) == {"a.md"}


async def test_an_empty_source_and_an_empty_index_are_in_sync(sync, memory):
    assert counts(await sync()) == (0, 0, 0, 0)
    assert memory.synced.documents == 0


async def test_new_model_is_built_beside_and_switched_at_the_end(sync, folder, memory, embedder):
    (folder / "a.json").write_text('{"a": 1}')
    (folder / "b.md").write_text("text")
    await sync()
    (folder / "a.json").write_text('{"a": ')  # unreadable now, but still to be carried over
    embedder.digest = "model-2"
    report = await sync()
    assert counts(report) == (0, 1, 0, 0)
    assert set(memory.active) == {"a.json", "b.md"}
    states = [g.state for g in memory.all.values()]
    assert states == [GenerationState.RETIRED, GenerationState.ACTIVE]

    embedder.digest = "model-3"
    await sync()
    digests = {g.model.digest: g.state for g in memory.all.values()}
    assert digests == {"model-2": GenerationState.RETIRED, "model-3": GenerationState.ACTIVE}


async def test_the_old_generation_answers_while_the_new_one_fails(sync, folder, memory, embedder):
    (folder / "a.md").write_text("text")
    await sync()
    embedder.digest = "model-2"
    embedder.tamper = lambda answer: answer["data"].clear()
    with pytest.raises(Exception, match="0 embeddings of 1 texts"):
        await sync()
    assert [g.state for g in memory.all.values()] == [
        GenerationState.ACTIVE,
        GenerationState.BUILDING,
    ]


async def test_a_second_run_is_refused_before_it_writes(sync, folder, memory):
    (folder / "a.md").write_text("text")
    async with memory.exclusive(TENANT):
        with pytest.raises(IndexBusyError):
            await sync()
    assert memory.all == {}
    await sync()
    assert memory.writers == 0


async def test_a_run_that_lost_the_index_deletes_and_records_nothing(sync, folder, memory):
    for name in ("a.md", "b.md"):
        (folder / name).write_text(name)
    await sync()
    before = memory.synced
    (folder / "b.md").unlink()
    memory.lease.lost = True
    with pytest.raises(StoreUnavailableError):
        await sync()
    assert set(memory.active) == {"a.md", "b.md"}
    assert memory.synced is before


async def test_a_run_that_lost_the_index_switches_nothing(sync, folder, memory, embedder):
    (folder / "a.md").write_text("text")
    await sync()
    embedder.digest = "model-2"
    optimize = memory.optimize

    async def losing(*arguments: str) -> None:
        await optimize(*arguments)
        memory.lease.lost = True

    memory.optimize = losing
    with pytest.raises(StoreUnavailableError):
        await sync()
    states = [g.state for g in memory.all.values()]
    assert states == [GenerationState.ACTIVE, GenerationState.BUILDING]


async def test_progress_ends_at_the_total(sync, folder):
    for i in range(20):
        (folder / f"{i}.md").write_text(f"text {i}" if i % 3 else "")
    seen: list[Progress] = []
    await sync(progress=seen.append)
    assert [at.done for at in seen] == list(range(1, 21))
    assert {at.total for at in seen} == {20}


async def test_many_documents_share_batches(sync, folder, memory, embedder, settings: Settings):
    for i in range(150):
        (folder / f"{i:03}.txt").write_text(f"document {i} " * (1 + i % 40) * 10)
    report = await sync()
    assert counts(report) == (150, 0, 0, 0)
    assert report.chunks == len(embedder.texts)
    for document, chunks in memory.active.values():
        text = (folder / document.doc_id).read_text()
        assert [c.chunk.ordinal for c in chunks] == list(range(len(chunks)))
        assert all(text[c.chunk.start : c.chunk.end] == c.chunk.text for c in chunks)
        assert all(c.dense.shape == (8,) for c in chunks)

"""ingestion-complete: after every sync the index equals the source, whatever happened on the way."""

import asyncio
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from conformance.corpora.model import LabelledDocument
from conformance.corpora.prepare import prepared, provision
from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.data import _store
from conformance.stats import exactly
from rag_store.base import EmbeddedChunk

SCRATCH = "conformance-scratch"
WRITE_SECONDS = 60.0
BROKEN = {
    "truncated.pdf": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog",
    "empty.txt": b"",
    "not-utf8.txt": b"The limit is 5 \xc3\x28 and \xe2\x28\xa1 then more text.\n" * 5,
}


@dataclass(slots=True)
class Source:
    """A folder of documents that changes, with the text each document must have in the index."""

    folder: Path
    expected: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, text: str) -> None:
        """Add or change a document."""
        (self.folder / name).write_text(text, encoding="utf-8")
        self.expected[name] = text

    def remove(self, name: str) -> None:
        """Delete a document."""
        (self.folder / name).unlink()
        del self.expected[name]


@dataclass(frozen=True, slots=True)
class Step:
    """What one sync left: documents set aside, and where the index differs from the source."""

    name: str
    set_aside: list[str]
    differences: list[str]


def measure(context: Context) -> Observation:
    """Differences between index and source after each kind of change, a kill -9 among them."""
    asyncio.run(provision(context.target, SCRATCH))
    documents = list(prepared(context).full.corpus.documents)
    size, seed = int(context.parameter("documents")), int(context.parameter("seed"))
    drawn = random.Random(seed).sample(documents, min(size, len(documents)))  # noqa: S311
    with tempfile.TemporaryDirectory(prefix="source-") as name:
        source = Source(Path(name))
        steps = list(_changes(context, source, drawn))
    context.evidence.write("steps.jsonl", [asdict(step) for step in steps])
    named = [set(step.set_aside) == set(BROKEN) for step in steps[2:]]
    return Observation(
        {
            "differences": exactly(sum(len(step.differences) for step in steps), len(steps)),
            "broken_files_named": exactly(float(all(named)), len(named)),
        },
        notes=[f"{step.name}: {step.differences[:3]}" for step in steps if step.differences],
    )


def _changes(context: Context, source: Source, documents: list[LabelledDocument]) -> Iterator[Step]:
    """Change the source step by step, sync, and compare."""
    first, later = documents[: len(documents) // 2], documents[len(documents) // 2 :]
    for document in first:
        source.put(document.doc_id, document.markdown)
    yield _synced(context, source, "first load")
    source.put(first[0].doc_id, f"{first[0].markdown}\nAn amendment of {time.time_ns()}.\n")
    source.put("added.md", f"# Added\n\nWritten at {time.time_ns()}.\n")
    source.remove(first[1].doc_id)
    yield _synced(context, source, "add, change, delete")
    for name, content in BROKEN.items():
        (source.folder / name).write_bytes(content)
    yield _synced(context, source, "broken files")
    for document in later:
        source.put(document.doc_id, document.markdown)
    _killed(context, source)
    yield _synced(context, source, "killed midway, run again")


def _synced(context: Context, source: Source, step: str) -> Step:
    context.progress(0, 1, step)
    summary = context.target.ingest(source.folder, SCRATCH)
    return Step(
        step,
        sorted(Path(item["uri"]).name for item in summary["set_aside"]),
        asyncio.run(_differences(context, source)),
    )


async def _differences(context: Context, source: Source) -> list[str]:
    store = context.target.store("reader")
    found: dict[str, str] = {}
    try:
        generation = await store.active_generation(SCRATCH)
        listed = set(await store.documents(SCRATCH, generation.id))
        async for batch in store.scan(SCRATCH, generation.id):
            found |= {document.doc_id: _text(chunks) for document, chunks in batch}
    finally:
        await store.close()
    expected = source.expected
    return sorted(
        [f"missing: {name}" for name in expected.keys() - found.keys()]
        + [f"left over: {name}" for name in found.keys() - expected.keys()]
        + [f"not listed: {name}" for name in found.keys() ^ listed]
        + [
            f"text differs: {n}"
            for n in expected.keys() & found.keys()
            if not _covers(found[n], expected[n])
        ]
    )


def _text(chunks: list[EmbeddedChunk]) -> str:
    return " ".join(embedded.chunk.text for embedded in chunks)


def _words(text: str) -> set[str]:
    return set(text.replace("#", " ").split())


def _covers(indexed: str, written: str) -> bool:
    """Whether the chunks hold every word of the body, and no word that is not the document's."""
    heading, _, body = written.partition("\n") if written.startswith("# ") else ("", "", written)
    return _words(body) <= _words(indexed) <= _words(heading) | _words(body)


def _killed(context: Context, source: Source) -> None:
    """Start an ingestion and kill it with SIGKILL while it is at work."""
    process = context.target.start_ingest(source.folder, SCRATCH)
    try:
        asyncio.run(_wait_for_a_write(context, process))
    finally:
        process.kill()
        if process.wait() != -signal.SIGKILL:
            raise ProbeError("the ingestion ended before it could be killed: use more documents")


async def _wait_for_a_write(context: Context, process: "subprocess.Popen[bytes]") -> None:
    store, deadline = context.target.store("reader"), time.monotonic() + WRITE_SECONDS
    try:
        generation = (await store.active_generation(SCRATCH)).id
        before = (await store.counts(SCRATCH, generation)).documents
        while (await store.counts(SCRATCH, generation)).documents <= before:
            if process.poll() is not None:
                return
            if time.monotonic() > deadline:
                raise ProbeError(f"the ingestion wrote nothing within {WRITE_SECONDS:g} s")
            await asyncio.sleep(0.02)
    finally:
        await store.close()


@contextmanager
def _writes_are_lost(context: Context) -> Iterator[None]:
    """One document's chunks do not stay, as with a faulty replica or a full disk."""
    asyncio.run(provision(context.target, SCRATCH))
    with tempfile.TemporaryDirectory(prefix="source-") as name:
        (Path(name) / "first.md").write_text("# First\n\nSo that there is an index.\n")
        context.target.ingest(Path(name), SCRATCH)
    with _store.of(context).losing(SCRATCH, "added.md"):
        yield


GATE = Gate(
    id="ingestion-complete",
    phase=Phase.DATA,
    title="After every sync the index equals the source",
    promise="build and test the document ingestion pipeline",
    measure=measure,
    faults=(Fault("the store silently loses one document's chunks", _writes_are_lost),),
)

"""The corpus inside the platform: written as files, ingested by the real pipeline, once a run."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.corpora import files, fitz_gov
from conformance.corpora.model import LabelledCorpus, sample
from conformance.errors import CorpusError
from conformance.gate import Context, ProbeError

if TYPE_CHECKING:
    from conformance.targets.base import Target

SAMPLE = "corpus"
TENANT, SMALL_TENANT = "conformance", "conformance-small"


@dataclass(frozen=True, slots=True)
class Ingested:
    """A corpus in a tenant's index, with the folder it came from."""

    tenant: str
    corpus: LabelledCorpus
    folder: Path
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """The whole corpus and the small one."""

    full: Ingested
    small: Ingested


def load(folder: Path | None) -> LabelledCorpus:
    """The corpus in `folder`, or the built-in one; raises `CorpusError`."""
    return files.load(folder) if folder else fitz_gov.load()


def prepared(ctx: Context) -> Prepared:
    """The corpus in the tenants `conformance` and `conformance-small`, ingested once a run.

    Faults and proofs see the same index: it is not made again behind a planted fault's back.
    """
    result: Prepared = ctx.shared(SAMPLE, _prepare)
    return result


def _prepare(ctx: Context) -> Prepared:
    try:
        corpus = load(ctx.corpus_folder)
    except CorpusError as error:
        raise ProbeError(str(error)) from error
    seed = ctx.parameter("seed")
    corpus = reduced(corpus, int(ctx.parameter("documents")), seed)
    small = small_corpus(corpus, float(ctx.parameter("small_share")), seed)
    ctx.progress(0, 2, "small corpus")
    ingested_small = _ingested(ctx, SMALL_TENANT, small)
    ctx.progress(1, 2, "corpus")
    return Prepared(_ingested(ctx, TENANT, corpus), ingested_small)


def reduced(corpus: LabelledCorpus, size: int, seed: int) -> LabelledCorpus:
    """The corpus, or about `size` of its documents: those of the gold questions, then others."""
    if len(corpus.documents) <= size:
        return corpus
    picked = {name for query in corpus.gold for name in query.relevant}
    for document in sample(corpus.documents, size, seed, "reduced corpus"):
        if len(picked) >= size:
            break
        picked.add(document.id)
    part = corpus.only(picked)
    return LabelledCorpus(corpus.name, part.documents, [*part.queries, *corpus.unanswerable])


def small_corpus(corpus: LabelledCorpus, share: float, seed: int) -> LabelledCorpus:
    """About `share` of the documents, picked so that they answer some questions."""
    size = max(1, round(len(corpus.documents) * share))
    picked: set[str] = set()
    for query in sample(corpus.answerable, len(corpus.answerable), seed, "small corpus"):
        if len(picked) >= size:
            break
        picked.update(query.relevant)
    return corpus.only(picked)


def write(corpus: LabelledCorpus) -> Path:
    """The documents as Markdown in a folder that stays the same for the same corpus."""
    from rag_assets import derived

    def build(folder: Path) -> None:
        for document in corpus.documents:
            (folder / document.doc_id).write_text(document.markdown, encoding="utf-8")

    return derived(f"corpus-{corpus.name}", corpus.digest, build)


def _ingested(ctx: Context, tenant: str, corpus: LabelledCorpus) -> Ingested:
    folder = write(corpus)
    asyncio.run(provision(ctx.target, tenant))
    summary = dict(ctx.target.ingest(folder, tenant))
    ctx.evidence.write(f"ingest-{tenant}.json", summary)
    indexed = sum(int(summary[k]) for k in ("added", "changed", "unchanged"))
    if summary["set_aside"] or indexed != len(corpus.documents):
        raise ProbeError(
            f"tenant {tenant}: {indexed} of {len(corpus.documents)} documents indexed, "
            f"{len(summary['set_aside'])} set aside"
        )
    return Ingested(tenant, corpus, folder, summary)


async def provision(target: "Target", tenant: str) -> None:
    """Make the tenant's space in the store; it may be there already."""
    admin = target.store_admin()
    try:
        await admin.provision(tenant)
    finally:
        await admin.close()

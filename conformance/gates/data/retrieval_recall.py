"""retrieval-recall: the relevant documents are among the first ten."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase
from conformance.gates.data import _queries
from conformance.stats import bootstrap_mean


def measure(context: Context) -> Observation:
    """Recall@10 over held-out labelled queries, hybrid search and rerank."""
    answers = context.shared("hybrid", _queries.hybrid)
    context.evidence.write("queries.jsonl", [answer.row() for answer in answers])
    missed = [answer for answer in answers if answer.recall < 1]
    return Observation(
        {
            "recall_at_10": bootstrap_mean([answer.recall for answer in answers]),
            "labelled_recall_at_10": bootstrap_mean([a.labelled_recall for a in answers]),
        },
        notes=[f"{len(missed)} of {len(answers)} queries miss at least one relevant document"],
    )


@contextmanager
def _a_third_is_gone(context: Context) -> Iterator[None]:
    full = prepared(context).full
    documents = [document.doc_id for document in full.corpus.documents][::3]
    try:
        asyncio.run(_delete(context, documents))
        yield
    finally:
        context.target.ingest(full.folder, TENANT)


async def _delete(context: Context, documents: list[str]) -> None:
    store = context.target.store("writer")
    try:
        generation = await store.active_generation(TENANT)
        await store.delete(TENANT, generation.id, documents)
    finally:
        await store.close()


GATE = Gate(
    id="retrieval-recall",
    phase=Phase.DATA,
    title="Relevant documents found among the first ten",
    promise="validate retrieval recall (>85%)",
    measure=measure,
    faults=(Fault("a third of the documents is deleted from the index", _a_third_is_gone),),
)

"""backup-restore: a backup taken now, restored elsewhere, holds the same and finds the same."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import numpy as np

from conformance.corpora.model import LabelledQuery
from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase
from conformance.gates.data import _queries, _restored
from conformance.gates.data._restored import Ask, Tables
from conformance.gates.data._vectors import embed
from conformance.probes.cluster import changed, planted, unique
from conformance.probes.cluster.jobs import completed, job_of
from conformance.stats import exactly, paired_gain
from rag_store.base import HnswParameters

CRON_JOB, NAMESPACE = "backup", "rag-vectordb"
BATCH = 20  # questions in one statement: their vectors are text


def measure(context: Context) -> Observation:
    """Documents that differ between the store and its backup, restored; and recall of both, paired."""
    prepared(context)
    cluster, seconds = context.target.cluster, float(context.parameter("job_seconds"))
    cron_job = cluster.get("batch/v1", "CronJob", CRON_JOB, NAMESPACE)
    job = job_of(cron_job, unique(cluster, "backup"))
    with planted(cluster, job):
        completed(cluster, job, seconds, context.evidence)
    queries, tables = _queries.sample(context), _restored.tables(context, TENANT)
    vectors = embed(context, [query.text for query in queries])
    with _restored.restored(context, seconds) as copy, _restored.live(context, TENANT) as store:
        here, there = _documents(store, tables), _documents(copy, tables)
        before = _recalls(store, tables, queries, vectors)
        after = _recalls(copy, tables, queries, vectors)
    different = sorted(i for i in here.keys() | there.keys() if here.get(i) != there.get(i))
    context.evidence.write("different.json", different)
    return Observation(
        {
            "differences": exactly(len(different), len(here)),
            "recall_change": paired_gain(after, before),
            "recall_restored": exactly(float(np.mean(after)), len(after)),
        },
        notes=[f"{len(here)} documents here, {len(there)} restored"],
    )


def _documents(ask: Ask, tables: Tables) -> dict[str, str]:
    """Digest by document."""
    rows = (line.rpartition(" ") for line in ask(tables.documents()))
    return {doc_id: digest for doc_id, _, digest in rows}


def _recalls(
    ask: Ask, tables: Tables, queries: list[LabelledQuery], vectors: np.ndarray
) -> list[float]:
    """Share of each query's relevant documents among those of its ten nearest passages."""
    lines: list[str] = []
    for start in range(0, len(queries), BATCH):
        part = [[float(x) for x in row] for row in vectors[start : start + BATCH]]
        asked = tables.nearest(part, _queries.DEPTH, HnswParameters().ef_search)
        found = [line for line in ask(asked) if line != "SET"]
        # An index without a passage has no line to give.
        lines += found if len(found) == len(part) else [""] * len(part)
    return [
        sum(query.newly_found(dict.fromkeys(line.split(",")))) / len(query.relevant)
        for query, line in zip(queries, lines, strict=True)
    ]


@contextmanager
def _half_a_backup(context: Context) -> Iterator[None]:
    """The dump leaves the passages out, and succeeds."""
    cluster = context.target.cluster
    cron_job = cluster.get("batch/v1", "CronJob", CRON_JOB, NAMESPACE)
    containers = deepcopy(cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"])
    for container in containers:
        if container["name"] == "dump":
            without = "s/pg_dump /pg_dump --exclude-table-data=*.chunk_* /"
            container["command"] = ["/bin/sh", "-c", f"sed '{without}' /scripts/dump.sh | sh"]
    template = {"spec": {"template": {"spec": {"containers": containers}}}}
    patch = {"spec": {"jobTemplate": template}}
    with changed(cluster, "batch/v1", "CronJob", CRON_JOB, patch, NAMESPACE):
        yield


GATE = Gate(
    id="backup-restore",
    phase=Phase.DATA,
    title="A backup, restored elsewhere, holds and finds the same",
    promise="a backup that was not restored is none",
    measure=measure,
    faults=(Fault("the backup leaves the passages out", _half_a_backup),),
)

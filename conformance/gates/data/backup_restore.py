"""backup-restore: a backup taken now, restored elsewhere, holds the same and finds the same."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from conformance.corpora.model import LabelledQuery
from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase
from conformance.gates.data import _queries, _store
from conformance.gates.data._store.base import Contents, Vectors
from conformance.gates.data._store.restoring import CRON_JOB, NAMESPACE
from conformance.gates.data._vectors import embed
from conformance.probes.cluster import planted, unique
from conformance.probes.cluster.jobs import completed, job_of
from conformance.stats import exactly, paired_gain


def measure(context: Context) -> Observation:
    """Documents that differ between the store and its backup, restored; and recall of both, paired."""
    prepared(context)
    cluster, seconds = context.target.cluster, float(context.parameter("job_seconds"))
    cron_job = cluster.get("batch/v1", "CronJob", CRON_JOB, NAMESPACE)
    job = job_of(cron_job, unique(cluster, "backup"))
    with planted(cluster, job):
        completed(cluster, job, seconds, context.evidence)
    queries, store = _queries.sample(context), _store.of(context)
    vectors = embed(context, [query.text for query in queries])
    with store.restored(TENANT, seconds) as copy, store.contents(TENANT) as live:
        here, there = live.documents(), copy.documents()
        before, after = _recalls(live, queries, vectors), _recalls(copy, queries, vectors)
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


def _recalls(of: Contents, queries: list[LabelledQuery], vectors: Vectors) -> list[float]:
    """Share of each query's relevant documents among those of its ten nearest passages."""
    return [
        sum(query.newly_found(dict.fromkeys(found))) / len(query.relevant)
        for query, found in zip(queries, of.nearest(vectors, _queries.DEPTH), strict=True)
    ]


@contextmanager
def _half_a_backup(context: Context) -> Iterator[None]:
    with _store.of(context).half_a_backup():
        yield


GATE = Gate(
    id="backup-restore",
    phase=Phase.DATA,
    title="A backup, restored elsewhere, holds and finds the same",
    promise="a backup that was not restored is none",
    measure=measure,
    faults=(Fault("the backup leaves passages out", _half_a_backup),),
)

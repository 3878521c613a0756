"""A run of the data gates over a platform in one process, with small samples."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from conformance import catalogue, plan, slo
from conformance.context import RunContext
from conformance.corpora.prepare import TENANT
from conformance.gates.data import hnsw_parameters, retrieval_latency, tenant_isolation
from conformance.options import Settings
from conformance.progress import Lines
from conformance.prove import prove
from conformance.run import Run
from conformance.tests._data_platform import Database, Platform, write_corpus

GATES = (
    "retrieval-recall",
    "hybrid-gain",
    "ann-recall",
    "hnsw-parameters",
    "retrieval-latency",
    "vectordb-latency",
    "ingestion-complete",
    "index-freshness",
    "tenant-isolation",
)
# The samples of local.yaml, cut down to thirty documents.
SIZES = {
    "ann-recall": {"queries": 12},
    "retrieval-latency": {"queries": 6},
    "vectordb-latency": {"queries": 5},
    "ingestion-complete": {"documents": 8},
    "index-freshness": {"scrape_seconds": 1, "wait_seconds": 3},
    "tenant-isolation": {"queries": 6, "answers": 3},
}
SAMPLES = {
    "corpus": {"documents": 1000, "small_share": 0.5},
    "hybrid": {"queries": 15},
    "dense": {"queries": 15},
}
NUMBERS = {name: slo.load(slo.FOLDER / f"{name}.yaml") for name in ("local", "production")}
LOCAL = NUMBERS["local"]


def small(numbers: Any) -> Any:
    """The numbers with smaller samples; every limit stays."""
    profile = replace(numbers.profiles["prove"], n_min_share=0.01)
    gates = {
        name: replace(entry, parameters={**entry.parameters, "prove": SIZES.get(name, {})})
        for name, entry in numbers.gates.items()
    }
    samples = {**numbers.samples, **{name: {"prove": own} for name, own in SAMPLES.items()}}
    return replace(
        numbers, profiles={**numbers.profiles, "prove": profile}, gates=gates, samples=samples
    )


@contextmanager
def platform_on(database: Database, folder: Path) -> Iterator[Platform]:
    """The platform on a store, with its faults of other programs stood in for."""
    with pytest.MonkeyPatch.context() as patch, Platform(database, folder).running() as made:
        patch.setenv("RAG_CACHE_DIR", str(folder / "cache"))
        # Nothing here speaks TLS, and every client would read the machine's certificates anew.
        patch.setattr("ssl.SSLContext.load_verify_locations", lambda *_, **__: None)
        for module in (retrieval_latency, hnsw_parameters):
            patch.setattr(module, "reconfigured", made.reconfigured)
        swapped = SimpleNamespace(another_tenants_answers=made.another_tenants_answers)
        patch.setattr(tenant_isolation, "faults", swapped)
        yield made


def run_on(platform: Platform, folder: Path) -> Run:
    """A run of the gates in their order."""
    settings = Settings(
        folder / "target.json",
        profile="prove",
        keep_going=True,
        report=folder / "report",
        corpus=write_corpus(folder / "corpus"),
    )
    numbers = small(LOCAL)
    planned = plan.make(catalogue.discover(), numbers, gates=GATES)
    return Run(settings, numbers, platform.target, planned, Lines(), len(planned))


class Recording(RunContext):
    """A context that remembers which parameters were asked for, by gate or sample."""

    read: ClassVar[dict[str, set[str]]] = defaultdict(set)

    def parameter(self, name: str) -> Any:
        """And remember its name."""
        self.read[self.name].add(name)
        return super().parameter(name)


@dataclass(slots=True)
class Bench:
    """A run, and contexts of its gates with fresh samples."""

    run: Run
    platform: Platform

    def context(self, gate: str, **parameters: Any) -> Any:
        """Of a gate, with other parameters."""
        entry = self.run.slo.gates[gate]
        own = {**entry.parameters, "prove": {**entry.parameters["prove"], **parameters}}
        samples = self.run.samples.fresh()
        return self.run.context(replace(entry, parameters=own), f"edge/{gate}", "prove", samples)

    def planned(self, gate: str) -> Any:
        """The gate with its numbers."""
        return next(p for p in self.run.plan if p.id == gate)

    def judged(self, gate: str) -> Any:
        """The gate's verdict now, by the suite's own judge."""
        planned, context = self.planned(gate), self.context(gate)
        return self.run.judge(planned.slo, "prove")(planned.gate, context)


@contextmanager
def _room(gate: str, platform: Platform) -> Iterator[None]:
    """A graph of thirty points holds together whatever its parameters are."""
    if gate != "ann-recall":
        yield
        return
    with platform.crowded(TENANT, 300):
        yield


def proven(gate: str, bench: Bench) -> Any:
    """The verdict without a fault, and the proof of each fault."""
    planned = bench.planned(gate)
    bench.run.proofs.clear()
    with _room(gate, bench.platform):
        result = bench.run.measure(planned)
        return result, prove(bench.run, planned)


def judge_and_prove(gate: str, bench: Bench) -> Any:
    """The same, three times where it is about time: this machine may be busy."""
    for _ in range(3 if gate.endswith("latency") else 1):
        result, proofs = proven(gate, bench)
        if all(proofs):
            break
    return result, proofs

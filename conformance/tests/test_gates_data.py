"""The data gates on a real store with a small corpus: green, red with their fault, green again."""

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conformance import catalogue, plan, slo
from conformance.corpora.prepare import TENANT, prepared
from conformance.gate import Status
from conformance.gates.data import (
    retrieval_latency,
)
from conformance.options import Settings
from conformance.progress import Lines
from conformance.prove import prove
from conformance.run import Run
from conformance.tests._data_platform import Platform, write_corpus
from rag_store.embedded import embedded_database

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
    "ann-recall": {"queries": 30},
    "retrieval-latency": {"queries": 8},
    "vectordb-latency": {"queries": 6},
    "ingestion-complete": {"documents": 8},
    "index-freshness": {"scrape_seconds": 0},
    "tenant-isolation": {"queries": 12},
}
SAMPLES = {
    "corpus": {"documents": 1000, "small_share": 0.5},
    "hybrid": {"queries": 20},
    "dense": {"queries": 20},
}
LOCAL = slo.load(slo.FOLDER / "local.yaml", slo.FOLDER / "production.yaml")


def small(numbers):
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


@pytest.fixture(scope="module")
def database():
    # Not pytest's own folder: as root the server runs as another user, who may not enter it.
    with (
        tempfile.TemporaryDirectory(prefix="data-gates-") as folder,
        embedded_database(Path(folder), settings={"fsync": "off"}) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def platform(database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("platform")
    with pytest.MonkeyPatch.context() as patch, Platform(database, folder).running() as made:
        patch.setenv("RAG_CACHE_DIR", str(folder / "cache"))
        # A worker process for the one broken PDF costs a second a sync.
        patch.setattr("rag_ingestion.workers.IN_PROCESS", {".md", ".txt", ".pdf"})
        patch.setattr(retrieval_latency, "reconfigured", made.reconfigured)
        yield made


@pytest.fixture(scope="module")
def run(platform, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
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


@dataclass(slots=True)
class Bench:
    """A run, and contexts of its gates with fresh samples."""

    run: Run
    platform: Platform

    def context(self, gate, **parameters):
        entry = self.run.slo.gates[gate]
        own = {**entry.parameters, "prove": {**entry.parameters["prove"], **parameters}}
        samples = self.run.samples.fresh()
        return self.run.context(replace(entry, parameters=own), f"edge/{gate}", "prove", samples)

    def planned(self, gate):
        return next(p for p in self.run.plan if p.id == gate)

    def judged(self, gate):
        """The gate's verdict now, by the suite's own judge."""
        planned, context = self.planned(gate), self.context(gate)
        return self.run.judge(planned.slo, "prove")(planned.gate, context)


@pytest.fixture
def bench(run, platform):
    prepared(run.context(run.slo.gates["retrieval-recall"], "edge", "prove", run.samples))
    return Bench(run, platform)


@pytest.fixture
def target(platform, monkeypatch):
    """The target, whose attributes a test may replace."""
    return platform.target


@contextmanager
def _room(gate, platform):
    """A graph of thirty points holds together whatever its parameters are."""
    if gate != "ann-recall":
        yield
        return
    with platform.crowded(TENANT, 400):
        yield


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_is_green_then_red_with_its_fault_then_green(gate, bench):
    planned = bench.planned(gate)
    with _room(gate, bench.platform):
        result = bench.run.measure(planned)
        assert result.status is Status.PASS, result.reason
        assert planned.gate.faults
        for proof in prove(bench.run, planned):
            assert proof, proof

"""The data gates on a real store with a small corpus: green, red with their fault, green again."""

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import httpx
import psycopg
import pytest
from psycopg import sql
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from conformance import slo
from conformance.children import free_url
from conformance.context import RunContext, Samples
from conformance.corpora.model import LabelledQuery
from conformance.corpora.prepare import TENANT, prepared, provision
from conformance.gate import ProbeError, Status
from conformance.gates.data import (
    _queries,
    _vectors,
    hnsw_parameters,
    index_freshness,
    ingestion_complete,
    tenant_isolation,
)
from conformance.gates.data._store.pgvector import faults as _index
from conformance.targets.processes import SupervisorProcesses, serving
from conformance.targets.proxy import forwarding, slowed
from conformance.targets.reconfigured import reconfigured, started
from conformance.tests._data_bench import (
    GATES,
    LOCAL,
    NUMBERS,
    Bench,
    Recording,
    judge_and_prove,
    platform_on,
    run_on,
)
from conformance.tests._data_platform import SCHEDULED
from rag_store.base import StoreError
from rag_store.embedded import embedded_database
from rag_store.pgvector.names import TenantNames


@pytest.fixture(scope="module")
def database():
    # Not pytest's own folder: as root the server runs as another user, who may not enter it.
    with (
        tempfile.TemporaryDirectory(prefix="data-gates-") as folder,
        embedded_database(
            Path(folder), settings={"fsync": "off", "scram_iterations": "1"}
        ) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def platform(database, tmp_path_factory):
    with platform_on(database, tmp_path_factory.mktemp("platform")) as made:
        yield made


@pytest.fixture(scope="module")
def run(platform, tmp_path_factory):
    return run_on(platform, tmp_path_factory.mktemp("run"))


@pytest.fixture
def bench(run, platform, monkeypatch):
    monkeypatch.setattr("conformance.run.RunContext", Recording)
    prepared(run.context(run.slo.gates["retrieval-recall"], "edge", "prove", run.samples))
    return Bench(run, platform)


@pytest.mark.parametrize("gate", GATES)
def test_a_gate_is_green_then_red_with_its_fault_then_green(gate, bench):
    result, proofs = judge_and_prove(gate, bench)
    assert result.status is Status.PASS, result.reason
    assert proofs
    assert all(proofs), proofs
    own = {name for table in LOCAL.gates[gate].parameters.values() for name in table}
    assert own <= Recording.read[gate], "declared in local.yaml, but not read"


def test_every_profile_has_the_parameters_that_are_read(bench):
    assert Recording.read, "no gate was measured"
    for numbers in NUMBERS.values():
        for profile in slo.PROFILES:
            for name, parameters in Recording.read.items():
                own = numbers.samples.get(name)
                own = numbers.gates[name].parameters if own is None else own
                context = bench.context("ann-recall")
                context = replace(context, slo=numbers, profile=profile, parameters=own)
                for parameter in parameters:
                    assert RunContext.parameter(context, parameter) is not None


@pytest.mark.parametrize("environment", NUMBERS)
@pytest.mark.parametrize("profile", slo.PROFILES)
def test_a_sample_is_as_large_as_its_verdict_needs(environment, profile):
    numbers = NUMBERS[environment]
    sample = numbers.samples["hybrid"][profile]["queries"]
    assert numbers.samples["dense"] == numbers.samples["hybrid"]
    for gate in ("retrieval-recall", "hybrid-gain", "ann-recall", "retrieval-latency",
                 "vectordb-latency", "tenant-isolation"):  # fmt: skip
        entry = numbers.gates[gate]
        size = entry.parameters.get(profile, {}).get("queries", sample)
        for threshold in entry.metrics.values():
            assert numbers.profile(profile).n_min(threshold) <= size, (gate, threshold.metric)


# What is not measured is an error, never a verdict.


@pytest.fixture
def answering(platform, monkeypatch):
    """Retrieval answers what the given function of the request makes, or as always for None."""
    return lambda make: monkeypatch.setattr(platform.retrieval, "intercept", make)


@pytest.mark.parametrize(
    "gate",
    [
        "retrieval-recall",
        "hybrid-gain",
        "ann-recall",
        "retrieval-latency",
        "index-freshness",
        "tenant-isolation",
    ],
)
@pytest.mark.parametrize("status", [429, 500])
def test_a_service_that_refuses_is_an_error(gate, status, bench, answering):
    answering(lambda request: PlainTextResponse("no", status))
    result = bench.judged(gate)
    assert result.status is Status.ERROR
    assert str(status) in result.reason


def test_results_that_are_empty_are_no_recall(bench, answering):
    nothing = {"results": [], "relevance": 0.0, "timings_ms": {}}
    answering(lambda request: JSONResponse(nothing))
    assert bench.judged("retrieval-recall").checks[0].measurement.value == 0.0
    assert bench.judged("hybrid-gain").checks[0].measurement.value == 0.0
    ann = bench.judged("ann-recall")
    assert ann.status is Status.ERROR
    assert "found nothing" in ann.reason
    isolation = bench.judged("tenant-isolation")
    assert isolation.status is Status.ERROR
    assert "served nothing" in isolation.reason
    freshness = bench.judged("index-freshness")
    assert freshness.status is Status.FAIL
    assert "canary_found" in freshness.reason


def test_a_sync_that_nobody_scheduled_does_not_make_the_index_fresh(bench):
    """The gate must wait for the platform, not start the ingestion itself."""
    with bench.platform.target.processes.stopped("ingestion"):
        result = bench.judged("index-freshness")
    assert result.status is Status.FAIL
    assert "canary_found" in result.reason


def test_a_target_without_a_schedule_is_an_error(bench, monkeypatch):
    told = replace(bench.platform.target.description, schedule=None)
    monkeypatch.setattr(bench.platform.target, "description", told)
    result = bench.judged("index-freshness")
    assert result.status is Status.ERROR
    assert "declares no schedule" in result.reason


def test_a_schedule_that_is_too_rare_is_red(bench, monkeypatch):
    told = bench.platform.target.description
    rare = replace(told.schedule, every_seconds=7200.0)
    monkeypatch.setattr(bench.platform.target, "description", replace(told, schedule=rare))
    assert "schedule_seconds" in bench.judged("index-freshness").reason


def test_a_schedule_that_is_suspended_is_red_at_once(bench, monkeypatch):
    told = bench.platform.target.description
    never = replace(told.schedule, every_seconds=float("inf"))
    monkeypatch.setattr(bench.platform.target, "description", replace(told, schedule=never))
    result = bench.judged("index-freshness")
    assert result.status is Status.FAIL
    assert "schedule_seconds" in result.reason and "canary_found" in result.reason


def test_the_ef_search_of_the_running_service_is_judged_not_the_gates_own(bench):
    with bench.platform.reconfigured(bench.platform.target, "retrieval", HNSW_EF_SEARCH="40"):
        result = bench.judged("hnsw-parameters")
    assert result.status is Status.FAIL
    assert result.reason == "ef_search: value 40 is not = 128"


def test_a_service_that_does_not_tell_its_ef_search_is_an_error(bench, monkeypatch):
    monkeypatch.setattr(bench.platform.retrieval, "mute", True)
    monkeypatch.setattr(hnsw_parameters, "SETTLE_SECONDS", 0)
    result = bench.judged("hnsw-parameters")
    assert result.status is Status.ERROR
    assert "exports no rag_vectordb_hnsw_ef_search" in result.reason


def test_an_empty_corpus_is_an_error(bench, tmp_path):
    for name in ("documents.jsonl", "queries.jsonl"):
        (tmp_path / name).write_text("")
    context = replace(bench.context("retrieval-recall"), samples=Samples(), corpus_folder=tmp_path)
    with pytest.raises(ProbeError, match="empty"):
        prepared(context)


def test_a_document_that_was_not_indexed_is_an_error(bench, monkeypatch):
    ingest = bench.platform.target.ingest
    lossy = lambda folder, tenant: dict(ingest(folder, tenant), unchanged=1)  # noqa: E731
    monkeypatch.setattr(bench.platform.target, "ingest", lossy)
    context = replace(bench.context("retrieval-recall"), samples=Samples())
    with pytest.raises(ProbeError, match="documents indexed"):
        prepared(context)


def test_recall_and_ndcg():
    query = LabelledQuery("q", "?", True, ("a", "b"))
    ranked = _queries.Ranked(query, ("x.md", "a.md"), ("x#0", "a#0"), 0.1, {}, 0.5)
    assert ranked.recall == 0.5
    assert ranked.ndcg == pytest.approx(0.6309 / 1.6309, abs=1e-3)
    assert ranked.row()["documents"] == ("x.md", "a.md")


def test_a_question_that_no_cache_has_seen():
    query = LabelledQuery("q", "Which alba?", True, ("a",))
    first, second = _queries.unseen([query, query])
    assert first.text != second.text
    assert first.text.startswith(query.text)


def test_missing_vectors_are_an_error(bench, monkeypatch):
    monkeypatch.setattr(bench.platform.embedding, "drop", 1)
    result = bench.judged("vectordb-latency")
    assert result.status is Status.ERROR
    assert "5 texts gave 4 vectors" in result.reason
    with pytest.raises(ProbeError):
        _vectors.embed(bench.context("vectordb-latency"), ["a"])


def test_a_search_that_fails_is_slower_than_any_limit(bench, monkeypatch):
    class Failing:
        calls = 0

        async def search(self, *args, **options):
            self.calls += 1
            if self.calls > 1:
                raise StoreError("gone")

        async def close(self):
            pass

    monkeypatch.setattr(bench.platform.target, "store", lambda login: Failing())
    result = bench.judged("vectordb-latency")
    assert result.status is Status.FAIL
    assert "inf" in result.reason


def test_a_tenant_without_an_index_is_an_error(bench):
    asyncio.run(provision(bench.platform.target, "conformance-bare"))
    context = bench.context("hnsw-parameters")
    with (
        _index.owner(context, "conformance-bare") as connection,
        pytest.raises(ProbeError, match="no active generation"),
    ):
        _index.active_generation(connection, "conformance-bare")


def test_vectors_of_one_chunk_cannot_be_mixed_up(bench):
    context = bench.context("hybrid-gain")
    _index_of_one(bench.platform.target)
    with _index.owner(context, ingestion_complete.SCRATCH) as connection:
        generation = _index.active_generation(connection, ingestion_complete.SCRATCH)
        chunks = TenantNames(ingestion_complete.SCRATCH).tables(generation)["chunk"]
        with pytest.raises(ProbeError, match="no token vectors"):
            _index._mirror(connection, chunks)


def _index_of_one(target):
    asyncio.run(provision(target, ingestion_complete.SCRATCH))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "one.md").write_text("# One\n\nThe only one.\n")
        target.ingest(Path(folder), ingestion_complete.SCRATCH)


def test_a_lock_that_cannot_be_had_is_told(bench, monkeypatch):
    wrong = lambda text: sql.SQL(text.replace("ACCESS EXCLUSIVE", "NO SUCH"))  # noqa: E731
    monkeypatch.setattr(_index, "sql", SimpleNamespace(SQL=wrong, Identifier=sql.Identifier))
    context = bench.context("vectordb-latency")
    with pytest.raises(psycopg.errors.SyntaxError), _index.locked(context):
        time.sleep(0.1)


# index-freshness


def test_a_metric_that_is_missing_is_an_error(bench, monkeypatch):
    monkeypatch.setattr(bench.platform.retrieval, "mute", True)
    result = bench.judged("index-freshness")
    assert result.status is Status.ERROR
    assert "exports no rag_index_staleness_hours" in result.reason


@pytest.mark.parametrize("hours", [1.0, float("nan")])
def test_a_metric_that_lies_is_red(bench, monkeypatch, hours):
    monkeypatch.setattr(bench.platform.retrieval, "clock_error_hours", hours)
    result = bench.judged("index-freshness")
    assert result.status is Status.FAIL
    assert "metric_error_hours" in result.reason


def test_a_sync_that_was_never_recorded_is_an_error(bench, unscheduled):
    context = bench.context("index-freshness")
    kept = asyncio.run(index_freshness._record(context, None))
    with _index.owner(context, SCHEDULED) as connection:
        table = TenantNames(SCHEDULED).table("sync")
        connection.execute(sql.SQL("DELETE FROM {}").format(table))
    try:
        assert bench.judged("index-freshness").status is Status.ERROR
        for ask in (
            index_freshness._recorded_hours(context),
            index_freshness._record(context, kept),
        ):
            with pytest.raises(ProbeError, match="no completed sync"):
                asyncio.run(ask)
    finally:
        asyncio.run(_put_sync(bench.platform.target, kept))


@pytest.fixture
def unscheduled(bench):
    """No sync mends what a test does to the record."""
    with bench.platform.target.processes.stopped("ingestion"):
        yield


async def _put_sync(target, state):
    store = target.store("writer")
    try:
        await store.record_sync(SCHEDULED, state)
    finally:
        await store.close()


def test_the_stores_record_counts_when_the_metric_is_younger(bench, monkeypatch, unscheduled):
    context = bench.context("index-freshness")
    kept = asyncio.run(index_freshness._record(context, None))
    old = replace(kept, finished_at=datetime.now(UTC) - timedelta(hours=5))
    asyncio.run(_put_sync(bench.platform.target, old))
    monkeypatch.setattr(bench.platform.retrieval, "clock_error_hours", -5.0)
    try:
        result = bench.judged("index-freshness")
    finally:
        asyncio.run(_put_sync(bench.platform.target, kept))
    assert result.status is Status.FAIL
    assert "staleness_hours" in result.reason


# tenant-isolation


def test_a_tenant_believed_from_a_header_is_a_leak(bench, monkeypatch):
    monkeypatch.setattr(bench.platform.retrieval, "believed", "x-tenant-id")
    result = bench.judged("tenant-isolation")
    assert result.status is Status.FAIL
    assert {c.metric: c.measurement.value for c in result.checks}["leaks"] == 4
    assert sorted(note.rpartition(" header")[0] for note in result.notes) == [
        "leaked by gateway: /v1/answer",
        "leaked by gateway: /v1/retrieve",
        "leaked by retrieval: /v1/answer",
        "leaked by retrieval: /v1/retrieve",
    ]


def test_an_answer_from_another_tenants_index_is_a_leak(bench):
    target = bench.platform.target
    with bench.platform.another_tenants_answers(target, TENANT):
        result = bench.judged("tenant-isolation")
    assert result.status is Status.FAIL
    assert "leaked by gateway: answer" in " ".join(result.notes)


def test_a_leak_through_citations_is_one(bench):
    both = prepared(bench.context("tenant-isolation"))
    own = {document.doc_id for document in both.small.corpus.documents}
    foreign = next(d.doc_id for d in both.full.corpus.documents if d.doc_id not in own)
    cited = {"citations": [{"chunk_id": "c", "doc_id": foreign}]}
    assert tenant_isolation._foreign(httpx.Response(200, json=cited), both) == ["c"]
    assert tenant_isolation._foreign(httpx.Response(403, json=cited), both) == []
    told = {"citations": [], "sentences": [{"citations": [f"{foreign}#0"]}]}
    assert tenant_isolation._foreign(httpx.Response(200, json=told), both) == [f"{foreign}#0"]


@pytest.mark.parametrize("status", [404, 429, 503])
def test_a_forged_request_that_was_not_judged_is_an_error(bench, answering, status):
    names = {"x-tenant", "x-rag-tenant", "x-rag-user", "x-rag-jwt-tenant", "x-tenant-id"}
    answering(lambda r: PlainTextResponse("busy", status) if names & set(r.headers) else None)
    result = bench.judged("tenant-isolation")
    assert result.status is Status.ERROR
    assert f"header x-tenant: HTTP {status}" in result.reason


def test_a_forged_request_may_be_refused(bench, answering):
    answering(lambda r: PlainTextResponse("no", 403) if "x-tenant" in r.headers else None)
    assert bench.judged("tenant-isolation").status is Status.PASS


def test_refusing_the_small_tenant_is_not_isolation(bench, answering):
    """Whoever refuses everything leaks nothing; straight to retrieval, past the gateway."""

    def refusing(request):
        return PlainTextResponse("no", 403) if "x-rag-tenant-token" in request.headers else None

    answering(refusing)
    result = bench.judged("tenant-isolation")
    assert result.status is Status.ERROR
    assert "403" in result.reason


def test_an_empty_index_cannot_leak_and_is_an_error(bench):
    target, both = bench.platform.target, prepared(bench.context("tenant-isolation"))
    asyncio.run(_delete(target, [d.doc_id for d in both.full.corpus.documents]))
    try:
        result = bench.judged("tenant-isolation")
    finally:
        target.ingest(both.full.folder, TENANT)
    assert result.status is Status.ERROR
    assert "no chunk" in result.reason


async def _delete(target, documents):
    store = target.store("writer")
    try:
        await store.delete(TENANT, (await store.active_generation(TENANT)).id, documents)
    finally:
        await store.close()


# ingestion-complete


def _process(code):
    return subprocess.Popen([sys.executable, "-S", "-c", code])


@pytest.fixture
def ingesting(bench, monkeypatch):
    """`rag-ingest` is another program; the processes it started."""
    _index_of_one(bench.platform.target)
    begun = []

    def begin(code):
        def start(folder, tenant):
            begun.append(_process(code))
            return begun[-1]

        monkeypatch.setattr(bench.platform.target, "start_ingest", start)
        return begun

    return begin


def _killed(bench):
    context = bench.context("ingestion-complete")
    ingestion_complete._killed(context, ingestion_complete.Source(Path("nowhere")))


def test_an_ingestion_that_ends_too_soon_is_an_error(bench, ingesting):
    begun = ingesting("pass")
    with pytest.raises(ProbeError, match="before it could be killed"):
        _killed(bench)
    assert begun[0].returncode == 0


def test_an_ingestion_that_writes_nothing_is_an_error_and_is_stopped(bench, ingesting, monkeypatch):
    monkeypatch.setattr(ingestion_complete, "WRITE_SECONDS", 0.1)
    begun = ingesting("import time; time.sleep(60)")
    with pytest.raises(ProbeError, match="wrote nothing"):
        _killed(bench)
    assert begun[0].returncode == -9


def test_broken_files_that_nobody_names_are_red(bench, monkeypatch):
    ingest = bench.platform.target.ingest
    silent = lambda folder, tenant: ingest(folder, tenant) | {"set_aside": []}  # noqa: E731
    monkeypatch.setattr(bench.platform.target, "ingest", silent)
    monkeypatch.setattr(ingestion_complete, "_killed", lambda context, source: None)
    result = bench.judged("ingestion-complete")
    assert result.status is Status.FAIL
    assert result.reason.startswith("broken_files_named")


def test_every_difference_is_named(bench, tmp_path):
    source = ingestion_complete.Source(tmp_path)
    for name in ("same.md", "changed.md", "left.md"):
        source.put(name, f"# {name}\n\nThe text of {name}.\n")
    asyncio.run(provision(bench.platform.target, ingestion_complete.SCRATCH))
    bench.platform.target.ingest(tmp_path, ingestion_complete.SCRATCH)
    context = bench.context("ingestion-complete")
    assert asyncio.run(ingestion_complete._differences(context, source)) == []
    source.put("changed.md", "# changed.md\n\nAnother text.\n")
    source.put("absent.md", "# absent.md\n\nNever indexed.\n")
    source.remove("left.md")
    assert asyncio.run(ingestion_complete._differences(context, source)) == [
        "left over: left.md",
        "missing: absent.md",
        "text differs: changed.md",
    ]


@pytest.mark.parametrize(
    ("indexed", "written", "covered"),
    [
        ("One two.", "# Title\n\nOne two.\n", True),
        ("Title One two.", "# Title\n\nOne two.\n", True),
        ("One.", "# Title\n\nOne two.\n", False),
        ("One two three.", "# Title\n\nOne two.\n", False),
        ("One two.", "One two.\n", True),
        ("", "One two.\n", False),
        ("two.", "One\ntwo.\n", False),
    ],
)
def test_chunks_cover_a_text_or_not(indexed, written, covered):
    assert ingestion_complete._covers(indexed, written) is covered


# targets/proxy


@pytest.fixture(scope="module")
def echo():
    async def answer(request):
        told = {"query": str(request.query_params), "body": (await request.body()).decode()}
        return JSONResponse(told, 418, {"x-kept": "yes"})

    url = free_url()
    with serving(Starlette(routes=[Route("/echo", answer, methods=["GET", "POST"])]), url):
        yield url


def test_a_proxy_changes_bodies_and_keeps_the_rest(echo):
    async def shout(request, answer):
        return answer.content.upper()

    with serving(forwarding(echo, shout), url := free_url()):
        answer = httpx.post(f"{url}/echo?a=1", content=b"hello")
    assert answer.status_code == 418
    assert answer.headers["x-kept"] == "yes"
    assert answer.json() == {"QUERY": "A=1", "BODY": "HELLO"}


def at(url):
    told = SimpleNamespace(echo_url=url)
    return SimpleNamespace(description=told, processes=SupervisorProcesses(told))


def test_a_proxy_of_a_dead_service_answers_an_error():
    with slowed(at(free_url()), "echo", seconds=0) as url:
        assert httpx.get(f"{url}/echo").status_code == 500


def test_only_posts_are_slowed(echo, monkeypatch):
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr("conformance.targets.proxy.asyncio", SimpleNamespace(sleep=sleep))
    with slowed(at(echo), "echo", seconds=5) as url:
        assert httpx.get(f"{url}/echo").status_code == 418
        assert waited == []
        assert httpx.post(f"{url}/echo", content=b"x").json()["body"] == "x"
    assert waited == [5]


def test_one_post_in_so_many_is_slowed(echo, monkeypatch):
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    monkeypatch.setattr("conformance.targets.proxy.asyncio", SimpleNamespace(sleep=sleep))
    with slowed(at(echo), "echo", seconds=5, every=4) as url:
        for _ in range(9):
            httpx.post(f"{url}/echo", content=b"x")
    assert waited == [5, 5]


# targets/reconfigured

PROGRAM = """
import os, pathlib, signal, time
if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("said").write_text(os.environ["WORD"] + os.environ.get("MORE", ""))
time.sleep(60)
"""


class Supervised:
    """A supervisor of one real program, which says its settings in a file."""

    reconfigured = SupervisorProcesses.reconfigured

    def __init__(self, folder):
        self.folder, self.said = folder, folder / "said"
        self.start()

    def start(self):
        self.said.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", PROGRAM], env={"WORD": "plain"}, cwd=self.folder
        )
        self.wait_ready("program")

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.said.unlink(missing_ok=True)

    def pid(self, name):
        return self.process.pid

    @contextmanager
    def stopped(self, name):
        self.stop()
        try:
            yield
        finally:
            self.start()

    def wait_ready(self, name):
        deadline = time.monotonic() + 20
        while not (self.said.exists() and self.said.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.005)


@pytest.fixture
def supervised(tmp_path):
    made = Supervised(tmp_path)
    yield made
    made.stop()


def test_a_program_runs_with_other_settings_and_then_as_before(supervised):
    target = SimpleNamespace(processes=supervised)
    with reconfigured(target, "program", MORE=" and more"):
        assert supervised.said.read_text() == "plain and more"
    assert supervised.said.read_text() == "plain"
    assert supervised.process.poll() is None


def test_a_program_that_ignores_sigterm_is_killed(supervised, monkeypatch):
    monkeypatch.setattr("conformance.targets.reconfigured.STOP_SECONDS", 0.1)
    begun, popen = [], subprocess.Popen
    monkeypatch.setattr(
        "conformance.targets.reconfigured.subprocess.Popen",
        lambda *args, **options: begun.append(popen(*args, **options)) or begun[-1],
    )
    with reconfigured(SimpleNamespace(processes=supervised), "program", STUBBORN="1"):
        pass
    assert begun[0].returncode == -9
    assert supervised.said.read_text() == "plain"


def test_a_program_that_does_not_get_ready_is_stopped_again(supervised, monkeypatch):
    ready, calls = supervised.wait_ready, []

    def never(name):
        calls.append(name)
        if len(calls) == 1:
            raise ProbeError("not ready")
        ready(name)

    monkeypatch.setattr(supervised, "wait_ready", never)
    with (
        pytest.raises(ProbeError, match="not ready"),
        reconfigured(SimpleNamespace(processes=supervised), "program"),
    ):
        pass
    assert supervised.said.read_text() == "plain"


def test_how_a_process_was_started(supervised, tmp_path):
    how = started(supervised.process.pid)
    assert how.command[:2] == [sys.executable, "-S"]
    assert how.environment["WORD"] == "plain"
    assert how.directory == tmp_path


def test_a_process_that_is_gone_cannot_be_told(tmp_path):
    process = _process("pass")
    while Path(f"/proc/{process.pid}/cmdline").read_bytes():
        time.sleep(0.005)
    with pytest.raises(ProbeError):  # a zombie
        started(process.pid)
    process.wait()
    with pytest.raises(ProbeError, match=f"process {process.pid}: No such file"):
        started(process.pid)

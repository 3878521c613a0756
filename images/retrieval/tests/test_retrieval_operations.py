"""Metrics, readiness, settings and the pieces below them."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import DeadlineExceededError, SettingsError, UpstreamUnavailableError
from rag_retrieval.lru import ExpiringLru
from rag_retrieval.metrics import Metrics, StalenessCollector, Window
from rag_retrieval.retry import RetryBudget, call
from rag_retrieval.settings import load_settings
from rag_store.base import SyncState

NAMES = {
    "rag_retrieval_latency_seconds",
    "rag_retrieval_relevance_score_avg",
    "rag_embedding_cache_hit_ratio",
    "rag_grounded_response_ratio",
    "rag_vectordb_query_latency_seconds",
    "rag_index_staleness_hours",
    "rag_inference_queue_depth",
}
REQUIRED = {
    "EMBEDDING_URL": "http://127.0.0.1:1",
    "VECTOR_DB_URL": "postgresql://127.0.0.1:1/rag",
    "VECTOR_DB_CREDENTIALS_FILE": "none",
    "LLM_URL": "http://127.0.0.1:1",
    "LLM_MODEL": "m",
    "GUARD_URL": "http://127.0.0.1:1",
    "TENANT_TOKEN_PUBLIC_KEY_FILE": "none",
}


def scrape(service):
    families = text_string_to_metric_families(service.client.get("/metrics").text)
    return {family.name: family for family in families}


def test_every_metric_is_there_before_the_first_request(service):
    families = scrape(service)
    assert set(families) >= NAMES
    for name in NAMES - {"rag_index_staleness_hours"}:
        assert families[name].samples, name
        assert all(sample.value == 0 for sample in families[name].samples)
    for name in ("rag_retrieval_relevance_score_avg", "rag_embedding_cache_hit_ratio",
                 "rag_grounded_response_ratio"):  # fmt: skip
        assert families[f"{name}_observations"].samples[0].value == 0


@pytest.mark.parametrize(
    ("name", "promise"),
    [
        ("rag_vectordb_query_latency_seconds", 0.2),
        ("rag_retrieval_latency_seconds", 0.5),
        ("rag_answer_latency_seconds", 3.0),
    ],
)
def test_a_bucket_ends_exactly_at_the_promise(service, name, promise):
    bounds = [float(s.labels["le"]) for s in scrape(service)[name].samples if "le" in s.labels]
    assert promise in bounds
    assert max(b for b in bounds if b < promise) >= 0.8 * promise
    assert min(b for b in bounds if b > promise) <= 1.2 * promise


def test_requests_move_the_metrics(service):
    service.retrieve()
    service.answer()
    assert service.metric("rag_retrieval_latency_seconds_count") == 2
    assert service.metric("rag_vectordb_query_latency_seconds_count") == 2
    assert service.metric("rag_retrieval_relevance_score_avg_observations") == 2
    assert service.metric("rag_grounded_response_ratio") == 1
    assert service.metric("rag_requests_total", path="/v1/answer", status="answered") == 1
    assert service.metric("rag_audit_records_total", event="completion") == 2


def test_staleness_counts_from_the_last_sync_and_is_infinite_before_it(start, store):
    store.syncs["acme"] = SyncState(datetime.now(UTC) - timedelta(hours=3), None, 1, 1)
    service = start(store, staleness_poll_seconds=0.1)
    service.client.get("/healthz")
    end = time.monotonic() + 5
    while not scrape(service)["rag_index_staleness_hours"].samples:
        assert time.monotonic() < end
    samples = scrape(service)["rag_index_staleness_hours"].samples
    values = {sample.labels["tenant"]: sample.value for sample in samples}
    assert values["acme"] == pytest.approx(3, abs=0.01)
    assert values["beta"] == math.inf


def test_the_parameters_of_its_own_searches_are_told_by_tenant(start, store):
    store.empty.add("beta")
    service = start(store, staleness_poll_seconds=0.1)
    end = time.monotonic() + 5
    while not (samples := scrape(service)["rag_vectordb_hnsw_ef_search"].samples):
        assert time.monotonic() < end
    assert {sample.labels["tenant"]: sample.value for sample in samples} == {"acme": 77}
    assert service.metric("rag_vectordb_hnsw_m", tenant="acme") == 32


def test_staleness_keeps_ageing_while_the_store_is_down(start, store):
    store.down = True
    service = start(store, staleness_poll_seconds=0.05)
    end = time.monotonic() + 5
    while not service.metric("rag_staleness_poll_failures_total"):
        assert time.monotonic() < end
        time.sleep(0.02)
    now = [1000.0]
    collector = StalenessCollector(lambda: now[0])
    collector.synced_at = {"acme": 1000.0}
    now[0] += 7200
    (family,) = collector.collect()
    assert family.samples[0].value == 2.0


def test_a_window_forgets_and_is_never_nan():
    now = [0.0]
    window = Window(lambda: now[0])
    assert (window.mean(), window.count()) == (0.0, 0.0)
    window.observe(1.0)
    now[0] = 200
    window.observe(0.0)
    assert window.mean() == 0.5
    now[0] = 400
    assert (window.mean(), window.count()) == (0.0, 1.0)


def test_health_and_readiness(service, store, peers):
    assert service.client.get("/healthz").status_code == 200
    assert service.client.get("/readyz").status_code == 200
    peers.llm.status = 503
    assert service.client.get("/readyz").status_code == 200
    peers.guard.status = 503
    store.down = True
    answer = service.client.get("/readyz")
    assert answer.status_code == 503
    assert "store" in answer.json()["detail"] and "guard" in answer.json()["detail"]


def test_a_store_that_hangs_is_not_ready(start, store, monkeypatch):
    monkeypatch.setattr("rag_retrieval.readiness.SECONDS", 0.1)

    async def hang():
        await asyncio.sleep(60)

    store.ping = hang
    answer = start(store).client.get("/readyz")
    assert answer.status_code == 503
    assert "no answer within" in answer.json()["detail"]


def test_settings_name_what_is_missing(monkeypatch):
    for name in REQUIRED:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="LLM_URL"):
        load_settings()


def test_http_rerank_needs_a_url(monkeypatch, tmp_path):
    for name, value in (REQUIRED | {"AUDIT_SINK": f"file://{tmp_path}"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RERANK_BACKEND", "http")
    with pytest.raises(SettingsError, match="RERANK_URL"):
        load_settings()
    monkeypatch.setenv("RERANK_BACKEND", "late")
    assert load_settings().retrieval_top_k == 20


def _launch(environment):
    clean = {k: v for k, v in os.environ.items() if k in {"PATH", "HOME", "COVERAGE_FILE"}}
    command = [sys.executable, "-m", "rag_retrieval"]
    return subprocess.Popen(
        command, env=clean | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_command_says_in_one_line_what_is_wrong():
    process = _launch({})
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.startswith("rag_retrieval: ") and error.count("\n") == 1
    assert "LLM_URL" in error


def test_the_command_serves_until_sigterm(run):
    bind = run / "cmd"
    sink = {"AUDIT_SINK": f"file://{run}/cmd-audit", "BIND": f"unix:{bind}"}
    process = _launch(REQUIRED | sink)
    transport = httpx.HTTPTransport(uds=str(bind), retries=0)
    with httpx.Client(base_url="http://rag", transport=transport) as client:
        end = time.monotonic() + 60
        while True:
            try:
                assert client.get("/healthz").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.1)
        assert client.get("/readyz", timeout=10).status_code == 503
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    # uvicorn raises the signal again once it has drained and closed everything.
    assert process.returncode in {0, -signal.SIGTERM}


def test_a_retrieval_that_ran_out_of_time_counts_as_a_slow_one(start, store):
    store.delay = 5
    service = start(store, deadline_retrieve_seconds=0.3)
    service.retrieve()
    assert service.metric("rag_retrieval_latency_seconds_count") == 1
    assert service.metric("rag_retrieval_latency_seconds_sum") >= 0.29


def test_spans_name_the_stages_and_carry_no_text(service, monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("rag_retrieval.timing._tracer", provider.get_tracer("test"))
    service.answer()
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == [
        "rag.embed", "rag.search", "rag.rerank", "rag.guard", "rag.evidence", "rag.llm",
    ]  # fmt: skip
    assert spans[1].attributes["hits"] == 6
    assert "leave" not in json.dumps([span.to_json() for span in spans])


async def test_a_deadline_names_the_stage_and_lets_other_timeouts_through():
    deadline = Deadline.after(0.05)
    with pytest.raises(DeadlineExceededError, match="thinking"):
        async with deadline.bound("thinking"):
            await asyncio.sleep(5)
    with pytest.raises(DeadlineExceededError):
        deadline.check("later")
    with pytest.raises(TimeoutError):
        async with Deadline.after(5).bound("x"):
            raise TimeoutError


async def test_retries_stop_with_the_budget_the_tries_or_the_time():
    counter = Counter("retries", "x", ["service"], registry=CollectorRegistry())
    budget, calls = RetryBudget(counter, most=3), []

    async def fail():
        calls.append(1)
        raise UpstreamUnavailableError("x", "down")

    for _ in range(4):
        with pytest.raises(UpstreamUnavailableError):
            await call(fail, budget=budget, deadline=Deadline.after(9))
    assert len(calls) == 4 + 3
    calls.clear()
    fresh = RetryBudget(counter, most=3)
    with pytest.raises(UpstreamUnavailableError):
        await call(fail, budget=fresh, deadline=Deadline.after(0))
    assert len(calls) == 1


def test_a_bounded_map_forgets_the_oldest_and_the_expired():
    now = [0.0]
    lru = ExpiringLru(2, 10, lambda: now[0])
    lru.put("a", 1)
    lru.put("b", 2)
    assert lru.get("a") == 1
    lru.put("c", 3)
    assert lru.get("b") is None
    now[0] = 11
    assert lru.get("a") is None


def test_metrics_of_two_services_do_not_collide():
    assert Metrics().registry is not Metrics().registry

"""The answer gates against a small platform that is right, and one with each fault."""

import json
import math
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import pytest

from conformance.children import free_url
from conformance.corpora.model import LabelledCorpus, LabelledDocument, LabelledQuery
from conformance.gate import ProbeError
from conformance.gates.intelligence import (
    _answers,
    answer_correctness,
    answer_latency,
    audit_trail,
    embedding_cache,
    grounded_responses,
    relevance_score,
)
from conformance.gates.intelligence._scores import fact_recall, token_f1
from conformance.judge.pairs import LabelledPair
from conformance.probes import live
from conformance.probes.audit import Seen, Trail
from conformance.stats import share
from conformance.targets import answer_faults as faults
from conformance.targets.base import Description
from conformance.targets.local import LocalTarget

NAMES = ("Alba", "Brun", "Cora", "Dane", "Egon", "Faro", "Gala", "Hulm", "Iver", "Jura")
DOCUMENTS = [
    LabelledDocument(
        f"d{i}",
        f"{name} pump",
        f"The {name} pump weighs {i + 31} kg and was approved by {name} Works in {1960 + i}. "
        f"It is not sold in Norway. The warranty of the {name} pump lasts {i + 13} months.",
    )
    for i, name in enumerate(NAMES)
]
QUERIES = [
    LabelledQuery(
        f"q{i}",
        f"How much does the {name} pump weigh?",
        True,
        (f"d{i}",),
        "direct",
        f"The {name} pump weighs {i + 31} kg.",
        ((f"{i + 31} kg",),),
    )
    for i, name in enumerate(NAMES)
] + [
    LabelledQuery(f"n{i}", f"What is the parking fee at plant {i}?", False, (), "abstention")
    for i in range(5)
] + [
    LabelledQuery(
        f"t{i}", f"What is the price of the {name} pump?", True, (f"d{i}",), "grounding",
        forbidden_claims=(r"\$\d+",),
    )
    for i, name in enumerate(NAMES[:4])
]  # fmt: skip
CORPUS = LabelledCorpus("pumps", DOCUMENTS, QUERIES)
PAIRS = [
    LabelledPair("The Alba pump weighs 31 kg.", "The Alba pump weighs 31 kg.", True, "free"),
    LabelledPair("The Alba pump weighs 99 kg.", "The Alba pump weighs 31 kg.", False, "free"),
]
PARAMETERS = {
    "seed": 1, "answerable": 10, "unanswerable": 5, "traps": 4, "clients": 2,
    "judge_documents": 40, "queries": 10, "distinct": 5, "exponent": 1.1, "fault_delay": 1,
    "answers": 4, "retrievals": 4, "load": 40, "refusals": 3,
}  # fmt: skip


class Platform:
    """A platform in one process: retrieval by name, extractive answers, audit, cache, metrics."""

    def __init__(self):
        self.records, self.cache, self.flags = [], set(), []
        self.counts = {"hit": 0, "miss": 0}
        self.windows = {name: [] for name in ("relevance", "grounded")}
        self.answers, self.gauges, self.refusal = 0, {}, "Audit unavailable"
        self.down, self.unwritable, self.muted, self.dead = set(), False, False, False
        self.number, self.lock = 0, threading.Lock()
        self.change = lambda path, body: body
        self.text_of = None

    def handle(self, request):
        body, path = json.loads(request.content), request.url.path
        query = body.get("query") or body.get("question")
        if "Ignore all previous" in query:
            self.flags.append({"text": query})
            return httpx.Response(403, json={"rule": "override"})
        if self.dead:
            raise httpx.RemoteProtocolError("gone", request=request)
        with self.lock:
            return self._answer(path, query, body)

    def _answer(self, path, query, body):
        self.number += 1
        name = f"r{self.number}"
        if self.unwritable:
            kind = {"content-type": "application/problem+json"}
            return httpx.Response(503, json={"title": self.refusal}, headers=kind)
        hit = query in self.cache and "valkey" not in self.down
        self.counts["hit" if hit else "miss"] += 1
        self.cache.add(query)
        if "embedding" in self.down and not hit:
            self._audit(name, path, query, "failed", None, [])
            return httpx.Response(503, json={"title": "embedder unavailable"})
        found = [d for d in DOCUMENTS if d.title.split()[0] in query]
        results = [_result(d) for d in found] or [_result(DOCUMENTS[0])]
        told = self._told(path, query, name, found, results, hit)
        status = told.get("status", "ok")
        self._observe(path, told)
        self._audit(name, path, query, status, told, results)
        told = self.change(path, told)
        if body.get("stream"):
            return httpx.Response(200, text=f"event: done\ndata: {json.dumps(told)}\n\n")
        return httpx.Response(200, json=told)

    def _observe(self, path, told):
        if path == "/v1/retrieve":
            self.windows["relevance"].append(told["relevance"])
        else:
            self.answers += 1
            if told.get("decline_reason") != "not_answerable":
                self.windows["grounded"].append(float(told["status"] == "answered"))

    def _told(self, path, query, name, found, results, hit):
        if path == "/v1/retrieve":
            sure = 0.95 if found else 0.05
            return {"request_id": name, "results": results, "relevance": sure, "cache_hit": hit}
        common = {"request_id": name, "model": "m", "prompt_version": "p"}
        if not found or "price" in query:
            reason = "model_declined" if found else "not_answerable"
            none = {"answer": "", "sentences": [], "citations": []}
            return common | none | {"status": "declined", "decline_reason": reason}
        text = found[0].text.split(" and ")[0] + "."
        text = self.text_of(found[0]) if self.text_of else text
        sentence = {"text": text, "citations": [results[0]["chunk_id"]], "support": 1.0}
        return common | {
            "status": "answered", "answer": text, "sentences": [sentence], "citations": results,
        }  # fmt: skip

    def _audit(self, name, path, query, status, told, results):
        if self.muted:
            return
        record = {
            "request_id": name, "tenant": "conformance", "user": "u", "time": "2099", "path": path,
            "query": query, "chunks": [{"chunk_id": r["chunk_id"], "score": 1.0} for r in results],
            "model": "m", "prompt_version": "p", "prompt": [{"role": "user"}], "status": status,
            "response": (told or {}).get("answer"), "guard_verdict": {"flagged": False},
            "timings_ms": {"total": 1},
        }  # fmt: skip
        self.records += [{"event": e} | record for e in ("intent", "completion")]

    def metrics(self, service):
        total = sum(self.counts.values())
        values = {f'rag_embedding_cache_total{{result="{k}"}}': v for k, v in self.counts.items()}
        ratio = self.counts["hit"] / total if total else 0.0
        names = {"relevance": "rag_retrieval_relevance_score_avg",
                 "grounded": "rag_grounded_response_ratio"}  # fmt: skip
        for key, name in names.items():
            seen = self.windows[key]
            values[name] = sum(seen) / len(seen) if seen else 0.0
            values[f"{name}_observations"] = float(len(seen))
        for bound in ("1.0", "60.0", "+Inf"):
            values[f'rag_answer_latency_seconds_bucket{{le="{bound}"}}'] = float(self.answers)
        values["rag_embedding_cache_hit_ratio"] = ratio
        values["rag_embedding_cache_hit_ratio_observations"] = float(total)
        return values | self.gauges


def _result(document):
    return {
        "chunk_id": f"{document.doc_id}#0", "doc_id": document.doc_id, "title": document.title,
        "heading_path": [], "text": document.text,
    }  # fmt: skip


class Processes:
    def __init__(self, platform):
        self.platform = platform

    def kill(self, name):
        self.platform.dead = True

    def wait_ready(self, name, seconds=0):
        self.platform.dead = False

    @contextmanager
    def stopped(self, *names):
        self.platform.down |= set(names)
        yield
        self.platform.down -= set(names)


class Context:
    def __init__(self, platform, folder):
        self.folder, self.samples, self.written = folder, {}, {}
        self.evidence = SimpleNamespace(write=lambda name, data: self.written.__setitem__(
            name, list(data) if not isinstance(data, dict) else data))  # fmt: skip

        def client(tenant, timeout=1):
            transport = httpx.MockTransport(platform.handle)
            return httpx.Client(transport=transport, base_url="http://platform")

        self.target = SimpleNamespace(
            gateway=client,
            retrieval=client,
            metrics=platform.metrics,
            audit_records=lambda: list(platform.records),
            flagged=lambda: platform.flags,
            processes=Processes(platform),
            audit_unwritable=lambda: _unwritable(platform),
        )

    def parameter(self, name):
        return PARAMETERS[name]

    def shared(self, name, make):
        if name not in self.samples:
            self.samples[name] = make(self)
        return self.samples[name]

    def progress(self, *_):
        pass


@pytest.fixture
def platform(monkeypatch):
    ready = SimpleNamespace(full=SimpleNamespace(corpus=CORPUS))
    modules = (_answers, audit_trail, embedding_cache, grounded_responses, relevance_score)
    for module in modules:
        monkeypatch.setattr(module, "prepared", lambda context: ready)
    monkeypatch.setattr(audit_trail, "_SETTLE_SECONDS", 0)
    pages = SimpleNamespace(documents=lambda: DOCUMENTS)
    monkeypatch.setattr(grounded_responses, "fitz_gov", pages)
    monkeypatch.setattr(grounded_responses.planted, "labelled_pairs", lambda documents: PAIRS)
    return Platform()


@pytest.fixture
def context(platform, tmp_path):
    return Context(platform, tmp_path)


def values(observation):
    return {name: m.value for name, m in observation.metrics.items()}


def test_right_answers_score_one(context):
    found = values(answer_correctness.measure(context))
    assert found["fact_recall"] == found["answered_share"] == 1.0
    assert found["token_f1"] > 0.95
    assert found["forbidden_claims"] == 0.0
    assert len(context.written["answers.jsonl"]) == 19


def test_copied_chunks_have_a_low_f1(platform, context):
    platform.text_of = lambda document: document.text
    found = values(answer_correctness.measure(context))
    assert found["fact_recall"] == 1.0
    assert found["token_f1"] < 0.4


def test_wrong_numbers_lower_fact_recall(platform, context):
    platform.change = faults.other_numbers
    assert values(answer_correctness.measure(context))["fact_recall"] == 0.0


def test_declined_answers_lower_the_answered_share(platform, context):
    platform.change = lambda path, body: body | {"status": "declined"}
    assert values(answer_correctness.measure(context)) == {
        "answered_share": 0.0,
        "forbidden_claims": 0.0,
    }


def test_a_forbidden_claim_is_counted(platform, context):
    def claim(path, body):
        extra = {"status": "answered", "answer": "It costs $77."}
        return body | extra if body.get("status") == "declined" else body

    platform.change = claim
    assert values(answer_correctness.measure(context))["forbidden_claims"] == 1.0


def test_latency_times_answers_and_punishes_failures(platform, context):
    observation = answer_latency.measure(context)
    assert observation.metrics["p95"].n == 10
    assert observation.metrics["p95"].value < 60
    platform.unwritable, context.samples = True, {}
    assert answer_latency.measure(context).metrics["p95"].value == _answers.TIMEOUT_SECONDS


def test_a_model_that_sleeps_is_awake_before_it_is_timed(platform, context):
    slow = []
    platform.change = lambda path, body: slow.append(body["status"]) or body
    _answers.answers(context)
    assert (slow[0], len(slow)) == ("answered", 20)  # the sample's 19 and the one before it


def test_supported_answers_are_grounded(context):
    found = values(grounded_responses.measure(context))
    assert found["grounded_share"] == found["declined_share"] == 1.0
    assert found["live_ratio"] == pytest.approx(
        11 / 15
    )  # one woke the model, which declined the traps
    assert found["live_gap"] == 0.0
    assert found["judge_error"] < 0.3
    assert found["judge_false_accept"] < 0.3
    assert found["judge_error_hand_labelled"] == 0.0
    assert found["judge_false_accept_hand_labelled"] == 0.0
    assert "judge_accuracy_number" in found


@pytest.mark.parametrize(
    "change",
    [
        faults.without_citations,
        faults.other_numbers,
        lambda path, body: (
            json.loads(json.dumps(body).replace("#0", "#9")) if path == "/v1/answer" else body
        ),
    ],
)
def test_ungrounded_answers_are_seen(platform, context, change):
    platform.change = change
    assert values(grounded_responses.measure(context))["grounded_share"] == 0.0


def test_answering_the_unanswerable_is_seen(platform, context):
    def answer(path, body):
        return body | {"status": "answered", "answer": "x"} if path == "/v1/answer" else body

    platform.change = answer
    assert values(grounded_responses.measure(context))["declined_share"] == 0.0


def test_a_title_and_headings_belong_to_the_source():
    result = {"title": "Pump", "heading_path": ["Pump", "Care"], "text": "Oil it."}
    assert grounded_responses.source_text(result) == "Pump. Care. Oil it."
    assert grounded_responses.source_text({"text": "Oil it."}) == "Oil it."


def test_relevance_is_high_and_calibrated(platform, context):
    found = values(relevance_score.measure(context))
    assert found["mean"] == pytest.approx(0.95)
    assert found["ece"] == pytest.approx(0.05)
    platform.change = lambda path, body: body | {"relevance": 0.2}
    assert values(relevance_score.measure(context))["ece"] == pytest.approx(0.8)


def test_the_cache_serves_repeats(platform, context):
    found = values(embedding_cache.measure(context))
    assert found["hit_ratio"] == found["possible_ratio"] >= 0.5
    assert found["metric_gap"] == found["gauge_gap"] == 0.0
    with context.target.processes.stopped("valkey"):
        assert values(embedding_cache.measure(context))["hit_ratio"] == 0.0


def test_questions_that_the_guard_refuses_meet_no_cache(platform, context, monkeypatch):
    replay = ["Ignore all previous", "Alba a", "Alba b", "Alba a", "Ignore all previous"]
    monkeypatch.setattr(embedding_cache, "_replay", lambda _: replay)
    found = embedding_cache.measure(context).metrics["hit_ratio"]
    assert (found.value, found.n) == (pytest.approx(1 / 3), 3)
    monkeypatch.setattr(embedding_cache, "_replay", lambda _: ["Ignore all previous"])
    with pytest.raises(ProbeError, match="no question"):
        embedding_cache.measure(context)


def test_a_metric_that_lies_is_seen(platform, context):
    platform.change = lambda path, body: body | {"cache_hit": True}
    found = values(embedding_cache.measure(context))
    assert found["metric_gap"] > 0.1
    assert found["gauge_gap"] > 0.1


def gauge(mean, count, name="g"):
    return {name: mean, f"{name}_observations": float(count)}


def test_a_gauge_that_forgot_old_values_is_no_lie():
    before, after = gauge(1.0, 10), gauge(0.5, 10)
    assert live.window_gap(before, after, "g", [1.0] * 5 + [0.0] * 5).value == 0.0
    assert live.window_gap(before, after, "g", [1.0] * 2 + [0.0] * 8).value > 0


def test_a_window_shorter_than_the_sample_holds_its_end():
    own = [0.0] * 90 + [1.0] * 10
    assert live.window_gap(gauge(0.3, 50), gauge(1.0, 10), "g", own).value == 0.0
    assert live.window_gap(gauge(0.3, 50), gauge(0.1, 10), "g", own).value == pytest.approx(0.9)


def test_what_others_did_is_known_within_bounds_only():
    before, after = gauge(0.0, 0), gauge(0.6, 10)
    assert live.window_gap(before, after, "g", [0.5] * 8).value > 0
    assert live.window_gap(before, after, "g", [0.5] * 8, others=2).value == 0.0
    assert live.window_gap(before, gauge(0.9, 10), "g", [0.5] * 8, others=2).value > 0


def histogram(*counts):
    bounds = ("0.1", "0.5", "+Inf")
    return {f'h_bucket{{le="{b}"}}': float(c) for b, c in zip(bounds, counts, strict=True)}


def test_a_histogram_agrees_within_its_bucket_or_by_how_much_not():
    before = histogram(5, 5, 5)
    gap = lambda after, seconds: live.latency_gap(before, after, "h", seconds).value  # noqa: E731
    assert gap(histogram(5, 15, 15), [0.3] * 10) == 0.0
    assert gap(histogram(15, 15, 15), [0.3] * 10) == pytest.approx(0.2)
    assert gap(histogram(5, 5, 15), [0.3] * 10) == pytest.approx(0.2)
    assert gap(histogram(5, 14, 14), [0.3] * 10) == math.inf  # one was not counted
    with pytest.raises(ProbeError, match="h is not exported"):
        live.latency_gap({}, {"h_count": 1.0}, "h", [0.3])


@pytest.mark.parametrize(
    ("measure", "gauges"),
    [
        (relevance_score.measure, {"rag_retrieval_relevance_score_avg": 0.2}),
        (grounded_responses.measure, {"rag_grounded_response_ratio": 1.0}),
        (answer_latency.measure, {'rag_answer_latency_seconds_bucket{le="1.0"}': 0.0}),
    ],
)
def test_an_exported_metric_that_disagrees_with_what_was_measured_is_seen(
    platform, context, measure, gauges
):
    assert values(measure(context))["live_gap"] == 0.0
    platform.gauges, context.samples = gauges, {}
    assert values(measure(context))["live_gap"] > 0.05


def test_an_exported_metric_that_is_missing_is_an_error(platform, context):
    platform.metrics = lambda service: {}
    context.target.metrics = platform.metrics
    for gate in (relevance_score, grounded_responses, answer_latency):
        with pytest.raises(ProbeError, match="is not exported"):
            gate.measure(context)


def test_a_judge_that_accepts_everything_is_measured_as_such(context, monkeypatch):
    lenient = SimpleNamespace(supports=lambda claim, source: True, supported=lambda c, s: True)
    monkeypatch.setattr(grounded_responses, "_load", lambda: lenient)
    found = values(grounded_responses.measure(context))
    assert found["judge_false_accept"] == found["judge_false_accept_hand_labelled"] == 1.0
    assert found["judge_error_hand_labelled"] == 0.5


def test_missing_metrics_are_errors():
    with pytest.raises(ProbeError, match="did not move"):
        embedding_cache.metric_gap({}, {}, share(1, 2))
    with pytest.raises(ProbeError, match="not exported"):
        live.window_gap({}, {}, "x", [1.0])
    with pytest.raises(ProbeError, match="rests on no observation"):
        live.window_gap({}, gauge(0.0, 0), "g", [1.0])


def test_a_zipf_replay_repeats_and_is_reproducible():
    texts = [str(i) for i in range(50)]
    first = embedding_cache.zipf_replay(texts, 300, 1.1, 7)
    assert first == embedding_cache.zipf_replay(texts, 300, 1.1, 7)
    assert first.count("0") > first.count("40")


@contextmanager
def _unwritable(platform):
    platform.unwritable = True
    yield
    platform.unwritable = False


@pytest.fixture
def killable(platform, monkeypatch):
    slow = platform._answer

    def paced(path, query, body):
        threading.Event().wait(0.005)
        return slow(path, query, body)

    monkeypatch.setattr(platform, "_answer", paced)
    return platform


def test_a_complete_trail(killable, context):
    found = values(audit_trail.measure(context))
    assert found == {"complete_share": 1.0, "refused_share": 1.0, "lost": 0.0, "unrequested": 0.0}


def test_another_503_is_no_refusal_for_the_audit(killable, context):
    killable.refusal = "embedder unavailable"
    assert values(audit_trail.measure(context))["refused_share"] == 0.0


@pytest.mark.parametrize(
    ("status", "kind", "title", "refused"),
    [
        (503, "application/problem+json", "Audit unavailable", True),
        (503, "application/problem+json", "Overloaded", False),
        (503, "application/json", "Audit unavailable", False),
        (500, "application/problem+json", "Audit unavailable", False),
    ],
)
def test_the_audits_own_refusal(status, kind, title, refused):
    response = httpx.Response(status, json={"title": title}, headers={"content-type": kind})
    assert audit_trail._for_the_audit(response) is refused
    assert not audit_trail._for_the_audit(httpx.Response(503, text="upstream connect error"))


def test_lost_records_are_seen_and_nothing_is_killed(platform, context):
    platform.muted = True
    found = values(audit_trail.measure(context))
    assert found["complete_share"] == 0.0
    assert found["lost"] > 0
    assert "refused_share" not in found


def test_answers_other_than_recorded_are_seen(platform, context):
    platform.change = faults.other_numbers
    assert values(audit_trail.measure(context))["complete_share"] < 1.0


def test_a_record_without_a_request_is_seen(killable, context):
    killable._audit("ghost", "/v1/answer", "nobody asked", "answered", {"answer": "x"}, [])
    assert values(audit_trail.measure(context))["unrequested"] == 1.0


def test_a_trail_names_what_is_wrong():
    seen = Seen("/v1/answer", "q", "answered", {"request_id": "1", "answer": "a", "model": "m"})
    trail = Trail([{"request_id": "1", "event": e, "chunks": [{"chunk_id": "c"}]}
                   for e in ("intent", "completion")])  # fmt: skip
    problems = trail.problems(seen, "t")
    assert "tenant is empty" in problems
    assert "response differs" in problems
    assert "a chunk has no score" in problems
    assert Trail([]).problems(seen, "t") == ["records: none"]


def test_an_unreachable_gateway_is_an_error_not_a_verdict(context, platform):
    def refuse(request):
        raise httpx.ConnectError("refused", request=request)

    platform.handle = refuse
    with pytest.raises(ProbeError, match="cannot be reached"):
        _answers.answers(context)


def test_a_broken_response_is_data(context):
    def broken(request):
        raise httpx.ReadTimeout("slow", request=request)

    client = httpx.Client(transport=httpx.MockTransport(broken), base_url="http://x")
    answer = _answers.ask(client, QUERIES[0], "gold")
    assert answer.failed
    assert answer.seconds == _answers.TIMEOUT_SECONDS
    text = httpx.MockTransport(lambda r: httpx.Response(200, text="<html>"))
    assert _answers.ask(httpx.Client(transport=text, base_url="http://x"), QUERIES[0], "g").failed
    refused = httpx.MockTransport(lambda r: httpx.Response(401))
    with pytest.raises(ProbeError, match="401"):
        _answers.ask(httpx.Client(transport=refused, base_url="http://x"), QUERIES[0], "g")


def test_a_rate_limit_is_waited_for_but_not_forever(monkeypatch):
    monkeypatch.setattr(_answers.time, "sleep", lambda s: None)
    codes = iter([429, 429, 200])
    response, _ = _answers.within_rate(lambda: (httpx.Response(next(codes)), 0.0))
    assert response.status_code == 200
    with pytest.raises(ProbeError, match="limited the rate"):
        _answers.within_rate(lambda: (httpx.Response(429), 0.0))


def test_scores():
    query = LabelledQuery("q", "?", True, facts=(("65%", "two thirds"), ("Paris",)))
    assert fact_recall("About 65 percent, in Paris.", query) == 1.0
    assert fact_recall("About 165% in Rome.", query) == 0.0
    assert token_f1("The pump weighs 3 kg.", "pump weighs 3 kg") == 1.0
    assert token_f1("nothing", "pump") == 0.0


def test_stand_in_models_cite_a_source():
    assert faults.copy_first_source(["a", "b"], "?") == [{"sources": ["S1"], "text": "a"}]
    assert faults.copy_first_source([], "?") == []
    assert faults.invent(["a"], "?")[0]["sources"] == ["S1"]


def test_the_stand_in_streams_as_openai_does():
    from starlette.testclient import TestClient

    client = TestClient(faults.stand_in(faults.copy_first_source))
    prompt = "<sources>\n[S1] Pump: It weighs\n3 kg.\n[S2] Else.\n</sources>\nQuestion: weight?"
    messages = [{"role": "user", "content": prompt}]
    plain = client.post("/v1/chat/completions", json={"messages": messages}).json()
    assert "It weighs\\n3 kg." in plain["choices"][0]["message"]["content"]
    streamed = client.post("/v1/chat/completions", json={"messages": messages, "stream": True})
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert client.get("/health").status_code == 200


def test_a_full_disk_fails_writes_until_it_is_over(tmp_path):
    import subprocess
    import sys

    script = (
        "import os, sys\n"
        f"file = os.open({str(tmp_path / 'f')!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "for line in sys.stdin:\n"
        "    try: os.write(file, b'x'); print('ok', flush=True)\n"
        "    except OSError as e: print(e.errno, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def write():
        child.stdin.write("\n")
        child.stdin.flush()
        return child.stdout.readline().strip()

    try:
        assert write() == "ok"
        target = LocalTarget(Description("local"))
        target.processes = SimpleNamespace(pid={"retrieval": child.pid}.get)
        with target.audit_unwritable():
            assert write() == "27"  # EFBIG
        assert write() == "ok"
    finally:
        child.stdin.close()
        child.wait(10)


def test_the_proxy_changes_json_and_forwards_headers():
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from conformance.targets.processes import serving

    async def echo(request):
        return JSONResponse({"relevance": 0.2, "token": request.headers.get("x-rag-tenant-token")})

    url = free_url()
    with serving(Starlette(routes=[Route("/v1/retrieve", echo, methods=["POST"])]), url):
        client = TestClient(faults.proxy(url, faults.always_sure))
        body = client.post("/v1/retrieve", json={}, headers={"x-rag-tenant-token": "t"}).json()
        swapped = TestClient(
            faults.proxy(url, faults.as_it_is, lambda path, h: h | {"x-rag-tenant-token": path})
        )
        other = swapped.post("/v1/retrieve", json={}, headers={"x-rag-tenant-token": "t"}).json()
    assert body == {"relevance": 0.99, "token": "t"}
    assert other["token"] == "/v1/retrieve"


def test_only_answers_are_made_in_another_tenants_name(monkeypatch):
    seen = []

    @contextmanager
    def changed(target, name, change, sent):
        seen.append({path: sent(path, {"a": "b"}) for path in ("/v1/answer", "/v1/retrieve")})
        yield

    monkeypatch.setattr(faults, "answers_changed", changed)
    target = SimpleNamespace(tenant_token=lambda tenant: f"token of {tenant}")
    with faults.another_tenants_answers(target, "large"):
        pass
    swapped = {"a": "b", "x-rag-tenant-token": "token of large"}
    assert seen == [{"/v1/answer": swapped, "/v1/retrieve": {"a": "b"}}]

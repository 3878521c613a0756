"""embedding-upgrade: another model is served, filled in and switched to, and back, under questions."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import httpx

from conformance.corpora.prepare import prepared
from conformance.gate import Context, Fault, Gate, Observation, Phase, Plot, ProbeError
from conformance.gates.data import _traffic
from conformance.probes.cluster import FAULT, LABEL, Cluster, Object, planted
from conformance.probes.cluster.volumes import is_ready
from conformance.probes.load import rates
from conformance.probes.waiting import settled
from conformance.stats import exactly
from conformance.targets.layers.places import forward_to, place

KSERVE, INFERENCE = "serving.kserve.io/v1beta1", "InferenceService"
NAMESPACE, NOW, NEXT = "rag-embedding", "embedding", "embedding-next"
TENANT = "conformance-scratch"
# Retrieval reads which generation is active at most every two seconds.
SETTLED_SECONDS = 5.0


@dataclass
class Seen:
    """The model's digest of each answer, by when it came; and when which model was to be had alone."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    spans: list[tuple[float, float, str]] = field(default_factory=list)

    def judge(self, body: Mapping[str, Any]) -> str:
        """Keep the answer's model; an answer without one is a failed one."""
        digest = str((body.get("model") or {}).get("digest") or "")
        self.answers.append((time.monotonic(), digest))
        return "" if digest else "an answer that does not name its model"

    def mixed(self) -> int:
        """Answers by a model that nobody asked for, or by one while the other's index was active."""
        known = {digest for _, _, digest in self.spans}
        wrong = [1 for _, digest in self.answers if digest not in known]
        for begin, end, digest in self.spans:
            inside = [d for at, d in self.answers if begin + SETTLED_SECONDS < at < end]
            wrong += [1 for d in inside if d in known and d != digest]
        return len(wrong)


def measure(context: Context) -> Observation:
    """Failed requests and answers of the wrong model while the tenant's index is swapped twice."""
    folder = prepared(context).small.folder
    context.target.ingest(folder, TENANT)
    seen = Seen()
    with ExitStack() as stack:
        load = stack.enter_context(
            _traffic.retrievals(
                context,
                tenant=TENANT,
                per_second=float(context.parameter("rate")),
                clients=int(context.parameter("clients")),
                judge=seen.judge,
            )
        )
        url = stack.enter_context(_next_model(context))
        now, new = _digest(context, ""), _digest(context, url)
        if now == new:
            raise ProbeError(f"{NEXT} serves the same model {now[:12]}: nothing would be swapped")
        # Filled in beside the active one, and switched to at the end of each sync.
        _span(context, seen, now, lambda: context.target.ingest(folder, TENANT, EMBEDDING_URL=url))
        _span(context, seen, new, lambda: context.target.ingest(folder, TENANT))
        _span(context, seen, now, lambda: None)
        wanted = int(context.parameter("requests"))
        # The guard takes a few questions for attacks: they have neither answer nor failure.
        settled(lambda: len(seen.answers) + len(load.failed) < wanted, 600)
    context.evidence.write("answers.json", {"answers": seen.answers, "spans": seen.spans})
    return Observation(
        {
            "failed_requests": exactly(len(load.failed), len(load.outcomes)),
            "mixed_model_answers": exactly(seen.mixed(), len(seen.answers)),
            "models_answered": exactly(len({d for _, d in seen.answers}), len(seen.answers)),
        },
        notes=load.reasons(),
        plots=[
            Plot(
                "Questions while the model is swapped",
                "seconds",
                "requests/s served",
                {"served": rates(load.outcomes)},
            )
        ],
    )


def _span(context: Context, seen: Seen, digest: str, then: Callable[[], object]) -> None:
    """Questions are asked of one model's index for a while; `then` swaps it."""
    begin = time.monotonic()
    time.sleep(float(context.parameter("span_seconds")))
    seen.spans.append((begin, time.monotonic(), digest))
    then()


def _digest(context: Context, url: str) -> str:
    """The digest of the first model that an embedding service tells of; raises `ProbeError`."""
    with context.target.embedding() as client:
        answer = httpx.get(f"{url}/v1/models", timeout=30) if url else client.get("/v1/models")
    try:
        return str(answer.raise_for_status().json()["data"][0]["digest"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
        raise ProbeError(f"{url or NOW}: does not tell its model: {error!r}") from error


@contextmanager
def _next_model(context: Context) -> Iterator[str]:
    """The URL of a second embedder beside the first, with other settings and thus another model."""
    cluster = context.target.cluster
    made = _service(cluster, context.parameter("next_settings"))
    with planted(cluster, made, evidence=context.evidence):
        found = cluster.wait(
            lambda: [p for p in _pods(cluster) if is_ready(p)],
            float(context.parameter("ready_seconds")),
            f"{NAMESPACE}/{NEXT} ready",
        )
        with forward_to(cluster, place("embedding"), found[0]["metadata"]["name"]) as door:
            yield f"http://{door.address}"


def _pods(cluster: Cluster) -> list[Object]:
    labels = f"serving.kserve.io/inferenceservice={NEXT}"
    return cluster.list("v1", "Pod", NAMESPACE, labels)


def _service(cluster: Cluster, settings: Mapping[str, str]) -> Object:
    """The InferenceService as it runs, under another name and with other settings."""
    running = deepcopy(cluster.get(KSERVE, INFERENCE, NOW, NAMESPACE))
    metadata = running["metadata"]
    kept = {k: v for k, v in (metadata.get("annotations") or {}).items() if _ours(k)}
    container = running["spec"]["predictor"]["containers"][0]
    env = [e for e in container.get("env") or [] if e["name"] not in settings]
    container["env"] = [*env, *({"name": k, "value": str(v)} for k, v in settings.items())]
    return {
        "apiVersion": KSERVE,
        "kind": INFERENCE,
        "metadata": {
            "name": NEXT,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/name": NOW},
            "annotations": kept,
        },
        "spec": running["spec"],
    }


def _ours(annotation: str) -> bool:
    return annotation.startswith(("serving.kserve.io/autoscalerClass", "prometheus.io/"))


@contextmanager
def _next_out_of_reach(context: Context) -> Iterator[None]:
    """The mesh refuses whoever dials the second embedder, so the index is switched too soon."""
    cluster = context.target.cluster
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {
            "name": f"{NEXT}-out-of-reach",
            "namespace": NAMESPACE,
            "labels": {LABEL: FAULT},
        },
        "spec": {
            "action": "DENY",
            "selector": {"matchLabels": {"serving.kserve.io/inferenceservice": NEXT}},
            "rules": [{}],
        },
    }
    with planted(cluster, policy):
        yield


GATE = Gate(
    id="embedding-upgrade",
    phase=Phase.DATA,
    title="The embedding model is swapped without downtime and without mixed answers",
    promise="you need to update the LLM and embedding model without downtime",
    measure=measure,
    faults=(Fault("the index is switched before its model can be reached", _next_out_of_reach),),
)

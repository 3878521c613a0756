"""serving-ready: KServe turns an InferenceService into a server that answers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase
from conformance.gates.foundation._probes import PORT, condition, lasting, namespace, server
from conformance.probes.cluster import FAULT, LABEL, ApiError, Cluster, Object, planted, unique
from conformance.probes.cluster.workloads import SETTLE_SECONDS, stopped
from conformance.stats import exactly

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"
NAME = "web"  # with its namespace it makes a host name, which may have 63 characters
CONTROLLER = ("kserve", "kserve-controller-manager")
_INVALID = {
    "minReplicas": 3,
    "maxReplicas": 1,
}  # valid by its schema: only the webhook can refuse it


def measure(context: Context) -> Observation:
    """What of webhook, controller, a served answer and the existing services does not work."""
    cluster = context.target.cluster
    name = unique(cluster, "serving")
    problems = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": condition(item, "Ready")[1]
        for item in cluster.list(API, KIND)
        if "deletionTimestamp" not in item["metadata"]
    }
    with planted(cluster, namespace(name)):
        problems["the webhook refuses what is wrong"] = _accepted(context, cluster, name)
        served, seconds = _served(context, cluster, name)
    problems |= served
    context.evidence.write("serving.json", {"problems": problems, "ready after s": seconds})
    wrong = {what: why for what, why in problems.items() if why}
    return Observation(
        {
            "not_ready": exactly(len(wrong), len(problems)),
            "ready_seconds": Measurement(seconds, 1, unit="s"),
        },
        notes=[f"{what}: {why}" for what, why in wrong.items()],
    )


def _accepted(context: Context, cluster: Cluster, name: str) -> str:
    """'' when the webhook refuses an InferenceService whose numbers contradict each other."""
    wrong = _service(context, name)
    wrong["spec"]["predictor"] |= _INVALID
    try:
        cluster.create(wrong, dry_run=True)
    except ApiError as error:
        if "denied the request" in error.message:
            return ""
        return _by_webhook(error)
    return "accepted more replicas at least than at most"


def _served(context: Context, cluster: Cluster, name: str) -> tuple[dict[str, str], float]:
    """What is wrong with a new InferenceService, and the seconds until it was Ready."""
    ready, answers = "a new InferenceService becomes Ready", "its Service answers"
    started = time.monotonic()
    try:
        with planted(cluster, _service(context, name), evidence=context.evidence):
            why = _ready(cluster, name, float(context.parameter("ready_seconds")))
            seconds = time.monotonic() - started
            answer = "not asked" if why else _answer(cluster, name)
            return {ready: why, answers: answer}, seconds
    except ApiError as error:
        return {ready: _by_webhook(error), answers: "not asked"}, time.monotonic() - started


def _ready(cluster: Cluster, namespace: str, seconds: float) -> str:
    """'' once it is Ready, else what its condition says after `seconds`."""
    deadline = time.monotonic() + seconds
    while why := condition(cluster.get(API, KIND, NAME, namespace), "Ready")[1]:
        if time.monotonic() > deadline:
            return f"not after {seconds:g} s: {why}"
        time.sleep(0.25)
    return ""


def _answer(cluster: Cluster, namespace: str) -> str:
    try:
        answer = cluster.proxy(namespace, f"{NAME}-predictor", 80)
    except ApiError as error:
        if error.status < 500:  # the API server's own answer, not that of the server behind it
            raise
        return error.message
    return "" if str(answer).strip() == "probe" else f"answered {str(answer)[:100]!r}"


def _by_webhook(error: ApiError) -> str:
    """What the error says of the webhook; any other error is the probe's own and goes on."""
    if error.status and "webhook" in error.message:
        return error.message
    raise error


def _service(context: Context, namespace: str, **options: object) -> Object:
    pod = server(context, namespace)
    spec = lasting(pod)
    spec["containers"][0] |= {"name": "kserve-container", **options}
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "annotations": {"serving.kserve.io/autoscalerClass": "none"},
        },
        "spec": {"predictor": {"minReplicas": 1, "maxReplicas": 1, **spec}},
    }


@contextmanager
def _controller_stopped(context: Context) -> Iterator[None]:
    """The webhook goes with it, and answers a little later than its pod is ready again."""
    cluster = context.target.cluster
    try:
        with stopped(cluster, *CONTROLLER):
            yield
    finally:
        cluster.wait(
            lambda: not _accepted(context, cluster, "default"),
            SETTLE_SECONDS,
            "KServe's webhook answers again",
        )


@contextmanager
def _broken_service(context: Context) -> Iterator[None]:
    """An InferenceService whose server listens elsewhere than it is asked."""
    cluster = context.target.cluster
    name = unique(cluster, "broken")
    elsewhere = {"readinessProbe": {"tcpSocket": {"port": PORT + 1}, "periodSeconds": 1}}
    broken = _service(context, name, **elsewhere)
    broken["metadata"]["labels"] = {LABEL: FAULT}
    with planted(cluster, namespace(name), broken):
        yield


GATE = Gate(
    id="serving-ready",
    phase=Phase.FOUNDATION,
    title="KServe serves: webhook, controller, and every InferenceService",
    promise="KServe is the de-facto standard for ML model serving on Kubernetes",
    measure=measure,
    faults=(
        Fault("KServe's controller is stopped", _controller_stopped),
        Fault("an InferenceService never becomes Ready", _broken_service),
    ),
)

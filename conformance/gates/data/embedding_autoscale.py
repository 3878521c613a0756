"""embedding-autoscale: load brings replicas of the embedder, idleness takes them away, nobody fails."""

from collections.abc import Iterator
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, Plot, ProbeError
from conformance.gates.data import _traffic
from conformance.probes.cluster.scaling import Scaled, Timeline, watched
from conformance.probes.load import Load, rates
from conformance.probes.waiting import settled
from conformance.stats import exactly

WHERE = ("rag-embedding", "embedding-predictor")


def measure(context: Context) -> Observation:
    """Replicas and failures under questions that no cache has seen, and the replicas after them."""
    scaled = Scaled.of(context.target.cluster, *WHERE)
    quiet = _idle(context, scaled)
    with watched(scaled) as line:
        load = _loaded(context, scaled, line)
        quiet = _idle(context, scaled) if quiet <= 1 else quiet
    outcomes = load.outcomes
    context.evidence.write("replicas.json", line.points)
    context.evidence.write("requests.jsonl", outcomes)
    return Observation(
        {
            "peak_replicas": exactly(line.peak, len(line.points)),
            "idle_replicas": exactly(quiet, 1),
            "failed_requests": exactly(len(load.failed), len(outcomes)),
        },
        notes=load.reasons(),
        plots=[
            Plot(
                "Embedder under load",
                "seconds",
                "replicas ready; requests/s",
                {"replicas": line.points, "requests/s": rates(outcomes)},
                "step",
            )
        ],
    )


def _idle(context: Context, scaled: Scaled) -> int:
    """Replicas once there is one, or after the time in which there should be only one."""
    seconds = float(context.parameter("idle_seconds"))
    return settled(scaled.replicas, seconds, bad=lambda replicas: replicas > 1)


def _loaded(context: Context, scaled: Scaled, line: Timeline) -> Load:
    """The load, which lasts until it was long enough and a second replica has served, or gave up."""
    least, most = (float(context.parameter(f"load_seconds_{end}")) for end in ("least", "most"))
    if not scaled.ready():
        raise ProbeError(f"{'/'.join(WHERE)} has no ready replica to begin with")
    with _traffic.retrievals(
        context,
        per_second=float(context.parameter("rate")),
        clients=int(context.parameter("clients")),
    ) as load:
        settled(lambda: load.elapsed < least or (line.peak < 2 and not line.error), most)
    return load


@contextmanager
def _never_more(context: Context) -> Iterator[None]:
    with Scaled.of(context.target.cluster, *WHERE).held({"maxReplicaCount": 1}):
        yield


@contextmanager
def _never_less(context: Context) -> Iterator[None]:
    with Scaled.of(context.target.cluster, *WHERE).held({"minReplicaCount": 2}):
        yield


GATE = Gate(
    id="embedding-autoscale",
    phase=Phase.DATA,
    title="The embedder follows the load, both ways, and serves everybody meanwhile",
    promise="maxReplicaCount: 8, cooldownPeriod: 300, threshold: 50 req/s per pod",
    measure=measure,
    faults=(
        Fault("the ScaledObject may not add replicas", _never_more),
        Fault("the ScaledObject may not take replicas away", _never_less),
    ),
)

"""rollout-no-downtime: every pod of a question's way is replaced under load, and nobody notices."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from conformance.gate import Context, Fault, Gate, Observation, Phase, Plot
from conformance.gates.data import _traffic
from conformance.probes.cluster import Cluster, changed
from conformance.probes.cluster.rollouts import Workload, pods, rolled
from conformance.probes.cluster.workloads import APPS, wait_ready
from conformance.probes.load import rates
from conformance.probes.waiting import settled
from conformance.stats import exactly

RETRIEVAL = ("rag-retrieval", "retrieval")


def measure(context: Context) -> Observation:
    """Failed requests while each workload is rolled forth and back; n is what was asked meanwhile."""
    cluster = context.target.cluster
    workloads = [Workload.of(cluster, where) for where in context.parameter("workloads")]
    with ExitStack() as stack:
        asked = stack.enter_context(
            _traffic.retrievals(
                context,
                per_second=float(context.parameter("rate")),
                clients=int(context.parameter("clients")),
            )
        )
        answered = stack.enter_context(
            _traffic.answers(context, per_second=float(context.parameter("answer_rate")))
        )
        _awake(context, cluster, workloads)
        spans = {str(w): _rolled(context, cluster, w, lambda: asked.elapsed) for w in workloads}
        settled(lambda: len(asked.outcomes) < int(context.parameter("requests")), 600)
    failed = [*asked.failed, *answered.failed]
    context.evidence.write("rollouts.json", spans)
    context.evidence.write("requests.jsonl", [*asked.outcomes, *answered.outcomes])
    return Observation(
        {
            "failed_requests": exactly(len(failed), len(asked.outcomes) + len(answered.outcomes)),
            "failed_answers": exactly(len(answered.failed), len(answered.outcomes)),
            "workloads_rolled": exactly(len(spans), len(workloads)),
        },
        notes=[*asked.reasons(), *answered.reasons()],
        plots=[
            Plot(
                "Questions while everything is replaced",
                "seconds",
                "requests/s served",
                {
                    "retrieve": rates(asked.outcomes),
                    **{f"roll {name}": [(t, 0.0) for t in span] for name, span in spans.items()},
                },
            )
        ],
    )


def _awake(context: Context, cluster: Cluster, workloads: list[Workload]) -> None:
    """Wait until each has a pod: the answers wake a model that slept."""
    seconds = float(context.parameter("roll_seconds"))
    for workload in workloads:
        cluster.wait(partial(pods, cluster, workload), seconds, f"{workload} has a pod")


def _rolled(
    context: Context, cluster: Cluster, workload: Workload, clock: Callable[[], float]
) -> tuple[float, float]:
    """When, in seconds of the load, its roll forth began and its roll back ended."""
    started = clock()
    with rolled(cluster, workload, float(context.parameter("roll_seconds"))):
        pass
    return started, clock()


@contextmanager
def _all_at_once(context: Context) -> Iterator[None]:
    """Retrieval ends all its pods before it starts new ones."""
    cluster, (namespace, name) = context.target.cluster, RETRIEVAL
    patch = {"spec": {"strategy": {"type": "Recreate", "rollingUpdate": None}}}
    with changed(cluster, APPS, "Deployment", name, patch, namespace):
        yield
    wait_ready(cluster, "Deployment", namespace, name)


GATE = Gate(
    id="rollout-no-downtime",
    phase=Phase.INTELLIGENCE,
    title="New versions replace old ones under load without a failed request",
    promise="you need to update the LLM and embedding model without downtime",
    measure=measure,
    faults=(Fault("retrieval ends its pods before it starts new ones", _all_at_once),),
)

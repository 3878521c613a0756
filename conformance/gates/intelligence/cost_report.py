"""cost-report: who costs what, and what scale-to-zero saves on the declared office hours."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase, Plot, ProbeError
from conformance.gates.data import _traffic
from conformance.gates.intelligence import _costs, _office_hours
from conformance.gates.intelligence._office_hours import OfficeHours
from conformance.probes.cluster import Object
from conformance.probes.cluster.scaling import Scaled
from conformance.probes.cost import prices
from conformance.probes.waiting import settled
from conformance.stats import exactly

MODEL = ("rag-llm", "llm-predictor")
OWN_QUESTIONS = 10  # asked by the gate, so that a fresh platform has a question to divide by


def measure(context: Context) -> Observation:
    """Replica-hours and cost by layer, cost of 1,000 questions by tenant, the saving by schedule."""
    cluster, minutes = context.target.cluster, int(context.parameter("window_minutes"))
    paid = prices(context.target.environment)
    with _traffic.retrievals(context, per_second=2, clients=2) as load:
        settled(lambda: len(load.outcomes) < OWN_QUESTIONS, 60)
    bill = _costs.bill(cluster, paid, minutes)
    tenants = _costs.per_thousand(bill, _recent(context, bill.minutes), MODEL[0])
    saving = _saving(context, Scaled.of(cluster, *MODEL).item)
    context.evidence.write(
        "costs.json",
        {
            "currency": paid.currency,
            "minutes": bill.minutes,
            "replica hours": bill.hours,
            "cost": bill.costs,
            "cost of 1,000 questions by tenant": tenants,
        },
    )
    return Observation(
        {
            "unattributed_share": exactly(bill.unattributed, bill.minutes),
            "off_hours_saving_share": saving,
            "replica_hours": exactly(sum(bill.hours.values()), bill.minutes, "h"),
            "cost_per_1000_questions": exactly(max(tenants.values()), len(tenants)),
        },
        notes=[
            f"{paid.currency} by the prices of clusters/{context.target.environment}/prices.yaml",
            *(f"1,000 questions of {name}: {cost:.2f}" for name, cost in sorted(tenants.items())),
        ],
        plots=[
            Plot(
                f"Cost by layer over {bill.minutes} minutes",
                "layer",
                paid.currency,
                {n or "nobody's": [(float(i), c)] for i, (n, c) in enumerate(bill.costs.items())},
                "bar",
            )
        ],
    )


def _recent(context: Context, minutes: int) -> list[dict[str, str]]:
    """The audit records of the time that is billed; raises `ProbeError` for one without a time."""
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    try:
        records = context.target.audit_records(since)
        return [r for r in records if datetime.fromisoformat(r["time"]) >= since]
    except (KeyError, ValueError, TypeError) as error:
        raise ProbeError(f"an audit record without a readable time: {error!r}") from error


def _saving(context: Context, scaled_object: Object) -> Measurement:
    """The share of the model's replica-hours that a simulated week of the schedule does not need."""
    hours = OfficeHours.of(context.parameter("office_hours"))
    used = [
        max(_office_hours.kept(scaled_object, moment), int(hours.hold(moment)))
        for moment in hours.week()
    ]
    return exactly(1 - sum(used) / (len(used) * max(used)), len(used))


@contextmanager
def _never_off(context: Context) -> Iterator[None]:
    with Scaled.of(context.target.cluster, *MODEL).held({"minReplicaCount": 1}):
        yield


GATE = Gate(
    id="cost-report",
    phase=Phase.INTELLIGENCE,
    title="Costs by layer and tenant, and what scale-to-zero saves",
    promise="40-60 % compute cost savings from KEDA scale-to-zero in non-peak hours",
    measure=measure,
    faults=(Fault("the model never scales to zero", _never_off),),
)

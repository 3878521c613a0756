"""Replica-hours from Prometheus, priced by what the pods ask for, attributed to layers and tenants."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from conformance.gate import ProbeError
from conformance.gates.foundation._layers import LAYERS, PLATFORM
from conformance.probes.cluster import Cluster, Object
from conformance.probes.cluster.prometheus import Prometheus
from conformance.probes.cost import GIB, Prices, amount

APP = "app.kubernetes.io/name"
# A minute's pods, counted every minute: what was never scraped is not there, so pods count, not requests.
HOURS = 'sum_over_time((count by (namespace, app) (up{{job="pods"}}))[{minutes}m:1m]) / 60'
MINUTES = 'count_over_time((count(up{{job="pods"}}))[{minutes}m:1m])'
SYSTEM = ("kube-system", "flux-system")
_TEMPLATES = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "CronJob"),
)
Key = tuple[str, str]  # namespace and app


@dataclass
class Bill:
    """Cost by layer (`platform` for what they share, '' for nobody's) over `minutes` of data."""

    minutes: int
    hours: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    costs: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def total(self) -> float:
        """Everything."""
        return sum(self.costs.values())

    @property
    def unattributed(self) -> float:
        """The share of the cost that is no layer's and not the platform's."""
        return self.costs.get("", 0.0) / self.total


def bill(cluster: Cluster, prices: Prices, minutes: int) -> Bill:
    """What ran in the last `minutes`; raises `ProbeError` when Prometheus knows of nothing."""
    hours = replica_hours(Prometheus(cluster), minutes)
    measured = int(sum(_numbers(Prometheus(cluster), MINUTES.format(minutes=minutes)).values()))
    if not hours or not measured:
        raise ProbeError(f"Prometheus has seen no pod in the last {minutes} minutes")
    result, each = Bill(measured), dict(unit_costs(cluster, prices))
    # A pod of which nothing is left to tell what it asked for costs what others do.
    usual = fmean(each.values()) if each else 0.0
    for key, count in hours.items():
        result.hours[layer(*key)] += count
        result.costs[layer(*key)] += count * each.get(key, usual)
    for namespace, gib in volumes(cluster):
        owner = layer(namespace, "volume")
        result.costs[owner] += prices.volume_hour(gib) * measured / 60
    if not result.total:
        raise ProbeError("no pod asks for anything: nothing to price")
    return result


def replica_hours(prometheus: Prometheus, minutes: int) -> dict[Key, float]:
    """Hours that pods ran, added up by namespace and app."""
    return _numbers(prometheus, HOURS.format(minutes=minutes))


def _numbers(prometheus: Prometheus, query: str) -> dict[Key, float]:
    return {
        (s["metric"].get("namespace", ""), s["metric"].get("app", "")): float(s["value"][1])
        for s in prometheus.query(query)
    }


def layer(namespace: str, app: str) -> str:
    """Whose cost it is: a layer's namespace, `platform`, or '' when nobody can say."""
    if namespace in LAYERS:
        return namespace if app else ""
    return "platform" if namespace in (*PLATFORM, *SYSTEM) else ""


def unit_costs(cluster: Cluster, prices: Prices) -> Iterator[tuple[Key, float]]:
    """The cost of an hour of a replica by namespace and app: of live pods, else of templates."""
    for namespace, spec, labels in _templates(cluster):
        yield (namespace, labels.get(APP, "")), prices.replica_hour(spec)
    for pod in cluster.list("v1", "Pod"):
        labels = pod["metadata"].get("labels") or {}
        yield (pod["metadata"]["namespace"], labels.get(APP, "")), prices.replica_hour(pod["spec"])


def _templates(cluster: Cluster) -> Iterator[tuple[str, Object, Mapping[str, str]]]:
    for item in (item for kind in _TEMPLATES for item in cluster.find_all(*kind)):
        spec = item["spec"].get("jobTemplate", item)["spec"]
        template = spec["template"]
        labels = template.get("metadata", {}).get("labels") or {}
        yield item["metadata"]["namespace"], template["spec"], labels


def volumes(cluster: Cluster) -> Iterator[tuple[str, float]]:
    """Namespace and GiB of every bound claim."""
    for claim in cluster.find_all("v1", "PersistentVolumeClaim"):
        size = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
        if size:
            yield claim["metadata"]["namespace"], amount(size) / GIB


def per_thousand(
    bill: Bill, records: Sequence[Mapping[str, str]], model_layer: str
) -> dict[str, float]:
    """Cost of 1,000 questions by tenant: the model's shared by answers, the rest by questions.

    Raises `ProbeError` when nobody asked anything.
    """
    asked = [r for r in records if r.get("event") == "completion"]
    questions = Counter(str(r["tenant"]) for r in asked)
    answers = Counter(str(r["tenant"]) for r in asked if str(r.get("path", "")).endswith("answer"))
    if not questions:
        raise ProbeError("the audit trail has no question: its cost cannot be told")
    model = bill.costs.get(model_layer, 0.0)
    each_answer = model / answers.total() if answers else 0.0
    each = (bill.total - each_answer * answers.total()) / questions.total()
    return {
        tenant: 1000 * (each + each_answer * answers[tenant] / count)
        for tenant, count in questions.items()
    }

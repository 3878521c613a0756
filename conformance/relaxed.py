"""What an environment may ask less of than production: only with a reason, and never in silence."""

from collections.abc import Iterator, Mapping
from typing import Any

from conformance.marked_yaml import MarkedYaml
from conformance.slo import PROFILES, GateSlo, Slo, Threshold, seconds

# Parameters that are no size of a sample: less of them asks no less of the platform.
_NO_SIZE = frozenset(
    {
        *("seed", "exponent", "fault_delay", "scrape_seconds", "wait_seconds"),
        *("settle_seconds", "idle_seconds", "answer_seconds", "load_seconds_most"),
    }
)
Parameters = Mapping[str, Mapping[str, Any]]
Message = tuple[str, list[str]]


def check(document: MarkedYaml, slo: Slo, production: Slo) -> None:
    """Raise `SloError`, with file and line, for a number below production's without its reason."""
    for name, theirs in production.samples.items():
        smaller = [*_smaller_parameters(slo.samples.get(name, {}), theirs)]
        if message := _unreasoned(smaller, slo.sample_reasons.get(name, "")):
            raise document.error(["samples", name], message)
    for gate_id, there in production.gates.items():
        path: list[str | int] = ["gates", str(there.phase), gate_id]
        ours = slo.gates.get(gate_id)
        if ours is None:
            raise document.error(path, f"missing, but {production.file.name} has it")
        if ours.phase is not there.phase:
            raise document.error(["gates", str(ours.phase), gate_id], "in another phase there")
        if not ours.not_applicable:
            for message, where in _gate(slo, ours, production, there):
                raise document.error([*path, *where], message)


def _gate(slo: Slo, ours: GateSlo, production: Slo, theirs: GateSlo) -> Iterator[Message]:
    yield from _relaxations(ours, theirs)
    smaller = [
        *_smaller_parameters(ours.parameters, theirs.parameters),
        *_smaller_n(slo, ours, production, theirs),
    ]
    if message := _unreasoned(smaller, ours.smaller_because):
        yield message, []


def _unreasoned(smaller: list[str], reason: str) -> str:
    if smaller and not reason:
        return f"{smaller[0]}: needs smaller_because"
    return "" if smaller or not reason else "smaller_because: nothing is smaller than production's"


def _smaller_parameters(ours: Parameters, theirs: Parameters) -> Iterator[str]:
    for profile in PROFILES:
        here, there = ({**t.get("all", {}), **t.get(profile, {})} for t in (ours, theirs))
        for name in here.keys() & there.keys() - _NO_SIZE:
            if isinstance(there[name], int | float) and here[name] < there[name]:
                yield _less(name, profile, here[name], there[name])


def _smaller_n(slo: Slo, ours: GateSlo, production: Slo, theirs: GateSlo) -> Iterator[str]:
    for name in ours.metrics.keys() & theirs.metrics.keys():
        for profile in slo.profiles.keys() & production.profiles.keys():
            here = slo.profiles[profile].n_min(ours.metrics[name])
            there = production.profiles[profile].n_min(theirs.metrics[name])
            if here < there:
                yield _less(f"n_min of {name}", profile, here, there)


def _less(name: str, profile: str, here: float, there: float) -> str:
    return f"{name} ({profile}) is {here:g}, production's is {there:g}"


def _relaxations(ours: GateSlo, theirs: GateSlo) -> Iterator[Message]:
    for name, there in theirs.metrics.items():
        here = ours.metrics.get(name)
        if here is None:
            yield f"{name} is missing, but production judges it", ["metrics"]
        elif message := _relaxation(here, there):
            yield message, ["metrics", name]
    for name, here in ours.metrics.items():
        if here.production and name not in theirs.metrics:
            yield "names a production number, but production has no such metric", ["metrics", name]


def _relaxation(here: Threshold, there: Threshold) -> str:
    if here.production and here.production != there.limit:
        return f"production is {there.limit} in its own file, not {here.production}"
    if not _weaker(here, there):
        return "is not relaxed, so it needs no production number" if here.production else ""
    if not here.production:
        return f"weaker than production ({there.limit}, {there.bound}): needs production and reason"
    if seconds(here.unit) or here.relaxed_because:
        return ""
    return "only a metric in seconds, or one with `relaxed_because`, may be relaxed"


def _weaker(here: Threshold, there: Threshold) -> bool:
    if here.limit.kind != there.limit.kind or there.limit.kind == "equals":
        return here.limit != there.limit
    kept = here.limit == there.limit or there.limit.holds(here.limit.value)
    return not kept or (there.bound != "point" and here.bound == "point")

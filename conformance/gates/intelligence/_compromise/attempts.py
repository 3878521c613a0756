"""Attempts of a compromised pod, and how they are judged against what is declared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from conformance.errors import SuiteError
from conformance.gate import ProbeError
from conformance.static.environment import ROOT
from conformance.static.matrix import holds, variables

FILE = ROOT / "platform" / "network-policies" / "powers.yaml"
EVERY = "every"
UNDECLARED, UNNEEDED, UNTRIED = "undeclared", "declared, not possible", "not tried"
DECLARED, REFUSED = "declared", "refused"
WRONG = (UNDECLARED, UNNEEDED, UNTRIED)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One thing that an account tried; `got` is None when it could not be tried.

    `by_design` is why the platform means it to work, where its own files say so: the matrix of
    flows and the vault's list of accounts. Everything else that works is in `powers.yaml`.
    """

    who: str
    family: str
    what: str
    got: bool | None
    told: str = ""
    by_design: str = ""


@dataclass(frozen=True, slots=True)
class Power:
    """What accounts (`every` for all) can do by design once they are taken over, and why."""

    who: tuple[str, ...]
    can: str
    why: str

    def names(self, attempt: Attempt) -> bool:
        """Whether it is this attempt that it declares."""
        if self.can != f"{attempt.family}: {attempt.what}":
            return False
        return EVERY in self.who or attempt.who in self.who


@dataclass(frozen=True, slots=True)
class Judged:
    """An attempt with what is to be said of it."""

    attempt: Attempt
    state: str
    why: str = ""

    def __str__(self) -> str:
        a = self.attempt
        return f"{a.who}: {a.family}: {a.what}: {self.state} ({self.why or a.told})"


def declared(environment: str, file: Path = FILE) -> list[Power]:
    """The powers that hold under the environment's vars; raises `ProbeError`."""
    try:
        vars_ = variables(environment)
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))["powers"]
        found = [e for e in entries if holds(e, vars_)]
        return [Power(tuple(e["who"]), can, str(e["why"])) for e in found for can in e["can"]]
    except (OSError, KeyError, TypeError, yaml.YAMLError, SuiteError) as error:
        raise ProbeError(f"{file}: not a list of powers: {error!r}") from error


def judged(attempts: Iterable[Attempt], powers: Sequence[Power]) -> list[Judged]:
    """Every attempt judged, and every power that nobody tried as one that was not."""
    found, tried = [], set[Power]()
    for attempt in attempts:
        own = [power for power in powers if power.names(attempt)]
        tried.update(own)
        found.append(_judged(attempt, own))
    for power in powers:
        if power not in tried:
            family, _, what = power.can.partition(": ")
            who = ", ".join(power.who)
            found.append(Judged(Attempt(who, family, what, None), UNTRIED, "declared, never tried"))
    return found


def _judged(attempt: Attempt, own: Sequence[Power]) -> Judged:
    if attempt.got is None:
        return Judged(attempt, UNTRIED, attempt.told)
    why = attempt.by_design or next((power.why for power in own), "")
    if attempt.got:
        return Judged(attempt, DECLARED if why else UNDECLARED, why)
    return (
        Judged(attempt, UNNEEDED, f"{why}; but {attempt.told}")
        if why
        else Judged(attempt, REFUSED, attempt.told)
    )


def counts(rows: Iterable[Judged]) -> Mapping[str, int]:
    """How many are in each state."""
    states = [row.state for row in rows]
    return {state: states.count(state) for state in (*WRONG, DECLARED, REFUSED)}

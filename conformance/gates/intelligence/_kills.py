"""What kills have cost: which requests each one touched, what is judged of them, and its pictures."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.gate import Measurement, Plot
from conformance.probes.asked import Asked, Outcome
from conformance.stats import exactly, share

STEP_SECONDS = 2.0
NOTHING = "nothing was away"


@dataclass(slots=True)
class Kill:
    """One kill: `back` is when the pod was there again, `over` when questions were served too.

    Both in seconds since the kill; None while it is not so.
    """

    name: str
    what: str
    at: float
    back: float | None = None
    over: float | None = None

    @property
    def recovery(self) -> float:
        """Seconds until all was well; infinite where that was not seen."""
        return float("inf") if self.over is None else self.over

    def touches(self, row: Asked) -> bool:
        """Whether the request was open while the pod was away."""
        return row.at <= self.at + self.recovery and row.ended >= self.at


@dataclass(frozen=True, slots=True)
class Cost:
    """The requests that a kill touched; one that met several counts for the last."""

    kill: Kill
    rows: Sequence[Asked]

    @property
    def failed(self) -> list[Asked]:
        """Those without a right answer."""
        return [row for row in self.rows if row.failed]

    @property
    def outage(self) -> float:
        """Seconds from the kill to the end of the last failure."""
        return max((row.ended - self.kill.at for row in self.failed), default=0.0)

    def __str__(self) -> str:
        kill, told = self.kill, counted(self.failed)
        back = "not back" if kill.back is None else f"back after {kill.back:.1f} s"
        felt = f"{len(self.failed)} of {len(self.rows)} requests failed"
        return f"{kill.name} ({kill.what}): {back}; {felt}{f' ({told})' if told else ''}"


def counted(rows: Iterable[Asked]) -> str:
    """Failures by what their callers were told."""
    told = Counter(f"{row.outcome} {row.status}" if row.status else row.outcome for row in rows)
    return ", ".join(f"{what} x {count}" for what, count in told.most_common())


def costs(kills: Sequence[Kill], rows: Sequence[Asked]) -> tuple[list[Cost], list[Asked]]:
    """What each kill touched, and the requests that none did."""
    touched: list[list[Asked]] = [[] for _ in kills]
    others: list[Asked] = []
    for row in rows:
        met = [own for kill, own in zip(kills, touched, strict=True) if kill.touches(row)]
        (met[-1] if met else others).append(row)
    return [Cost(kill, own) for kill, own in zip(kills, touched, strict=True)], others


def unclear(found: Sequence[Cost], others: Sequence[Asked], gateway: str) -> list[Asked]:
    """Failures that leave a caller in doubt: other statuses, and no answer while there is a gateway."""
    every = [(cost.kill.name, row) for cost in found for row in cost.rows]
    every += [(NOTHING, row) for row in others]
    return [
        row
        for name, row in every
        if row.outcome is Outcome.UNCLEAR or (row.outcome is Outcome.CUT and name != gateway)
    ]


def spared(
    found: Sequence[Cost], others: Sequence[Asked], felt: Collection[str]
) -> tuple[Measurement, str]:
    """The worst layer's share of failures while away was what nobody should miss, and the layer.

    The node with all that serves it is one. `felt` are those whose absence callers do notice.
    Failures while nothing was away count as well.
    """
    groups: dict[str, list[Asked]] = {NOTHING: list(others)}
    for cost in found:
        if cost.kill.name not in felt:
            groups.setdefault(_layer(cost.kill.name), []).extend(cost.rows)
    shares = {name: _failed(rows) / len(rows) for name, rows in groups.items() if rows}
    worst = max(shares, key=lambda name: shares[name], default=NOTHING)
    return exactly(shares.get(worst, 0.0), sum(map(len, groups.values()))), worst


def _layer(name: str) -> str:
    namespace = name.partition("/")[0]
    return "node" if namespace == "kube-system" else namespace


def _failed(rows: Sequence[Asked]) -> int:
    return sum(row.failed for row in rows)


def metrics(
    planned: int,
    found: Sequence[Cost],
    others: Sequence[Asked],
    felt: Collection[str],
    gateway: str,
) -> dict[str, Measurement]:
    """What is judged of requests and recoveries; `planned` kills were to be made."""
    rows = [*others, *(row for cost in found for row in cost.rows)]
    right = [row for row in rows if row.status == 200]
    wrong = [row for row in right if row.outcome is Outcome.WRONG]
    recovered = [cost.kill for cost in found if cost.kill.over is not None]
    return {
        "wrong_answers": exactly(len(wrong), len(right)),
        "unclear_failures": exactly(len(unclear(found, others, gateway)), len(rows)),
        # Not judged: the sooner the others are back, the more of the time is an outage.
        "failed_share": share(_failed(rows), len(rows)),
        "mean_outage": exactly(sum(c.outage for c in found) / len(found), len(found), "s"),
        "spared_failed_share": spared(found, others, felt)[0],
        "unrecovered": exactly(planned - len(recovered), planned),
        "slowest_recovery": exactly(max(c.kill.recovery for c in found), len(found), "s"),
    }


def requests_csv(found: Sequence[Cost], others: Sequence[Asked]) -> str:
    """Every request, in the order of its beginning, with what was away meanwhile."""
    away = {id(row): cost.kill.name for cost in found for row in cost.rows}
    rows = sorted([*others, *(r for c in found for r in c.rows)], key=lambda row: row.at)
    return _csv(
        {
            "at": f"{row.at:.3f}",
            "seconds": f"{row.seconds:.3f}",
            "path": row.path,
            "outcome": row.outcome,
            "status": row.status or "",
            "request_id": row.body.get("request_id", ""),
            "away": away.get(id(row), ""),
            "told": row.told,
        }
        for row in rows
    )


def kills_csv(found: Sequence[Cost]) -> str:
    """Every kill with its recovery and its failures."""
    return _csv(
        {
            "name": cost.kill.name,
            "what": cost.kill.what,
            "at": f"{cost.kill.at:.2f}",
            "back_seconds": _seconds(cost.kill.back),
            "recovery_seconds": _seconds(cost.kill.over),
            "outage_seconds": f"{cost.outage:.2f}",
            "requests": len(cost.rows),
            "failed": len(cost.failed),
            **{str(o): sum(r.outcome is o for r in cost.failed) for o in list(Outcome)[1:]},
        }
        for cost in found
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    listed, text = list(rows), io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]) if listed else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()


def plots(found: Sequence[Cost], others: Sequence[Asked]) -> Iterator[Plot]:
    """Requests over time with a mark for each kill; seconds of recovery by what was killed."""
    rows = [*others, *(row for cost in found for row in cost.rows)]
    marks = [(cost.kill.at, cost.kill.name.rpartition("/")[2]) for cost in found]
    served, failed = _rate(rows, lambda r: not r.failed), _rate(rows, lambda r: r.failed)
    series = {"served": served, "failed": failed}
    yield Plot("Requests while pods are killed", "seconds", "requests/s", series, marks=marks)
    slowest: dict[str, Cost] = {}
    for cost in sorted(found, key=lambda cost: cost.kill.recovery):
        slowest[cost.kill.name] = cost
    names = [cost.kill.name for cost in found if slowest[cost.kill.name] is cost]
    bars = {
        "back": [(float(n), slowest[name].kill.back or 0.0) for n, name in enumerate(names)],
        "questions failed": [(float(n), slowest[name].outage) for n, name in enumerate(names)],
    }
    yield Plot("Recovery", "", "seconds since the kill", bars, "bar", names=names)


def _rate(rows: Sequence[Asked], which: Callable[[Asked], bool]) -> list[tuple[float, float]]:
    """Requests a second that ended, in steps."""
    ended = Counter(int(row.ended // STEP_SECONDS) for row in rows if which(row))
    last = max((int(row.ended // STEP_SECONDS) for row in rows), default=-1)
    return [(step * STEP_SECONDS, ended[step] / STEP_SECONDS) for step in range(last + 1)]

"""A closed loop of askers on several sides by turns, and the processor time of each one's processes.

Processor time tells where the time goes, and other load on the machine hardly moves it.
"""

import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks._progress import bar, say

Ask = Callable[[int], Awaitable[None]]
Figures = dict[str, float]
Measure = Callable[[Path, "int | None", "Load"], Coroutine[Any, Any, dict[str, Any]]]
Run = Callable[["int | None", "Load | None"], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Load:
    """How much is asked: the first `questions`, `rounds` times at each number of askers."""

    questions: int = 400
    rounds: int = 3
    askers: Sequence[int] = (1, 4)


@dataclass(frozen=True, slots=True)
class Side:
    """What is asked, and its processes by name; the asking process is `client` on every side."""

    ask: Ask
    processes: Mapping[str, int]


def _seconds(pid: int) -> float:
    """Processor seconds of a process and its descendants, ended ones included."""
    parent = psutil.Process(pid)
    times = [process.cpu_times() for process in (parent, *parent.children(recursive=True))]
    mine = times[0]
    return sum(t.user + t.system for t in times) + mine.children_user + mine.children_system


def _clock(side: Side) -> Figures:
    return {"client": time.process_time()} | {n: _seconds(p) for n, p in side.processes.items()}


async def one_round(side: Side, questions: int, askers: int) -> Figures:
    """Latency and processor time a request in ms, requests a second; raises what `ask` raises."""
    left, seconds = iter(range(questions)), []

    async def asker() -> None:
        for number in left:
            start = time.perf_counter()
            await side.ask(number)
            seconds.append(time.perf_counter() - start)

    before, start = _clock(side), time.perf_counter()
    await asyncio.gather(*(asker() for _ in range(askers)))
    elapsed, after = time.perf_counter() - start, _clock(side)
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    cpu = {f"cpu_ms_{n}": (after[n] - before[n]) * 1000 / questions for n in after}
    return {"p50_ms": p50, "p95_ms": p95, "per_second": questions / elapsed} | cpu


async def compare(sides: Mapping[str, Side], load: Load) -> dict[str, dict[str, Figures]]:
    """The median round of each side, by number of askers; sides take turns, every other way round."""
    for name, side in sides.items():
        say(f"warming up {name}")
        await one_round(side, load.questions, max(load.askers))  # fills caches and plans
    plan = [
        (askers, name)
        for askers, number in itertools.product(load.askers, range(load.rounds))
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]
    ]
    found: dict[tuple[int, str], list[Figures]] = {key: [] for key in plan}
    for askers, name in bar(plan, "rounds"):
        found[askers, name].append(await one_round(sides[name], load.questions, askers))
    return {
        f"askers_{askers}": {name: _median(found[askers, name]) for name in sides}
        for askers in load.askers
    }


def _median(rounds: Sequence[Figures]) -> Figures:
    return {key: round(statistics.median(r[key] for r in rounds), 2) for key in rounds[0]}


def overhead(side: Figures, base: Figures) -> Figures:
    """What `side` costs more than `base`: 0.25 is a quarter more."""
    return {
        "p50": round(side["p50_ms"] / base["p50_ms"] - 1, 3),
        "p95": round(side["p95_ms"] / base["p95_ms"] - 1, 3),
        "throughput": round(base["per_second"] / side["per_second"] - 1, 3),
    }


def overheads(
    measured: Mapping[str, Mapping[str, Figures]], pairs: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """`overhead` of each pair (side and its base), by number of askers."""
    return {
        askers: {f"{side}/{base}": overhead(at[side], at[base]) for side, base in pairs}
        for askers, at in measured.items()
    }


def in_a_folder(measure: Measure, size: int | None, load: Load | None) -> dict[str, Any]:
    """What `measure` finds in a folder of its own, on the event loop that the services use."""
    import uvloop

    with tempfile.TemporaryDirectory(prefix="rb-") as name:
        return uvloop.run(measure(Path(name), size, load or Load()))


def quick_look(run: Run) -> None:
    """Print what `run` finds; `[DOCUMENTS [QUESTIONS]]` on the command line make it small."""
    small = Load(int(sys.argv[2]), 1) if len(sys.argv) > 2 else None
    print(json.dumps(run(int(sys.argv[1]) if len(sys.argv) > 1 else None, small), indent=1))

"""The store as the corpus grows, from the benchmark's results: a picture for the report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.gate import Plot

RESULTS = Path(__file__).parents[2] / "benchmarks/results.json"
_RECALL, _TIMES = "recall_at_10", {"store": "store_p95_ms", "retrieval": "retrieval_p95_ms"}


@dataclass(frozen=True, slots=True)
class Scale:
    """What `python -m benchmarks corpus` measured, and on what machine."""

    plots: tuple[Plot, ...]
    derived: int
    machine: str


def read(path: Path = RESULTS) -> Scale | None:
    """The curve, or None where the benchmark has not run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["corpus"]
    except (OSError, ValueError, KeyError):
        return None
    figures: Mapping[str, Mapping[str, Any]] = found["figures"]
    sizes = sorted(figures, key=int)
    names = [f"{int(size):,}" for size in sizes]

    def line(metric: str) -> list[tuple[float, float]]:
        return [(float(n), float(figures[size][metric])) for n, size in enumerate(sizes)]

    recall = {"recall@10": line(_RECALL), "promised": [(n, 0.985) for n, _ in line(_RECALL)]}
    times = {name: line(metric) for name, metric in _TIMES.items()}
    machine = found["machine"]
    return Scale(
        (
            Plot(
                "Recall as the corpus grows",
                "vectors",
                "against an exact scan",
                recall,
                names=names,
            ),
            Plot("P95 as the corpus grows", "vectors", "P95 in ms", times, names=names),
        ),
        max(int(figures[size]["derived"]) for size in sizes),
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']} before it",
    )

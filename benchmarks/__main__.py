"""`python -m benchmarks [NAME...]`: run them one after the other and write `benchmarks/results.json`.

Every figure is a ratio against a baseline of the same run; the machine is described beside it.
"""

import importlib
import json
import os
import pkgutil
import platform
import sys
import time
from pathlib import Path
from typing import Any

import benchmarks

RESULTS = Path(__file__).with_name("results.json")
_TOOLS = {"__main__", "train_evidence"}


def names() -> list[str]:
    """The benchmarks: modules of this package with a `run` function."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    return sorted(name for name in found if name not in _TOOLS and not name.startswith("_"))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    text = Path("/proc/cpuinfo").read_text()
    model = next((x.split(":", 1)[1].strip() for x in text.splitlines() if "model name" in x), "?")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "vnni": "vnni" in text,  # what INT8 is fast with
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def main(chosen: list[str]) -> int:
    """Run the chosen ones, all by default; those already in the file and not chosen stay."""
    unknown = set(chosen) - set(names())
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(names())}")
        return 2
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in chosen or names():
        print(f"── {name}", flush=True)
        start, described = time.monotonic(), machine()
        figures = importlib.import_module(f"benchmarks.{name}").run()
        results[name] = {
            "machine": described,
            "seconds": round(time.monotonic() - start, 1),
            "figures": figures,
        }
        print(json.dumps(figures, indent=1, default=str))
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True, default=str) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

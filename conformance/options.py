"""The suite's options, declared once for the command line and for pytest."""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from conformance.gate import Phase


@dataclass(frozen=True, slots=True)
class Settings:
    """What to judge, by which numbers, and where the report goes."""

    target: Path
    slo: Path | None = None
    profile: str = "full"
    phase: Sequence[str] = field(default_factory=tuple)
    gate: Sequence[str] = field(default_factory=tuple)
    keep_going: bool = False
    prove: bool = False
    report: Path = Path("report")
    corpus: Path | None = None
    signing_key: Path | None = None
    gates_root: Path | None = None


def default_target() -> Path:
    """`target.json` of the state folder."""
    return Path(os.environ.get("RAG_STATE_DIR", ".state")) / "target.json"


OPTIONS: dict[str, dict[str, Any]] = {
    "target": {"type": Path, "help": "target.json of what is judged"},
    "slo": {"type": Path, "help": "SLO file (default: the target's environment)"},
    "profile": {"choices": ["full", "demo", "prove"], "default": "full", "help": "sample sizes"},
    "phase": {
        "action": "append",
        "default": [],
        "choices": [str(p) for p in Phase],
        "help": "only this phase (repeatable)",
    },
    "gate": {
        "action": "append",
        "default": [],
        "metavar": "ID",
        "help": "only this gate (repeatable)",
    },
    "keep-going": {"action": "store_true", "help": "measure later phases after a phase has failed"},
    "prove": {"action": "store_true", "help": "then plant each gate's faults and see it turn red"},
    "report": {"type": Path, "default": Path("report"), "help": "folder of the report"},
    "corpus": {"type": Path, "help": "your own labelled corpus (see corpora/README.md)"},
    "signing-key": {"type": Path, "help": "Ed25519 private key (PEM) that signs the report"},
    "gates-root": {"type": Path, "help": "folder of the gates (default: the suite's own)"},
}


def declare(add: Callable[..., Any], prefix: str) -> None:
    """Call `add("--<prefix><name>", **spec)` for each option."""
    for name, spec in OPTIONS.items():
        add(f"--{prefix}{name}", dest=f"conformance_{name.replace('-', '_')}", **spec)


def settings_of(namespace: Any) -> Settings:
    """The settings from parsed options."""
    given = {f.name: getattr(namespace, f"conformance_{f.name}") for f in fields(Settings)}
    return Settings(**{**given, "target": given["target"] or default_target()})


def parser() -> argparse.ArgumentParser:
    """The parser of `python -m conformance`."""
    result = argparse.ArgumentParser(
        prog="conformance",
        description="Judge a running RAG platform. Exit code: 0 GO, 1 NO-GO, 2 could not run.",
    )
    declare(result.add_argument, "")
    return result


def pytest_arguments(settings: Settings) -> list[str]:
    """The settings as the plugin's pytest options."""
    arguments: list[str] = []
    for name in OPTIONS:
        value = getattr(settings, name.replace("-", "_"))
        flag = f"--conformance-{name}"
        if isinstance(value, bool):
            arguments += [flag] if value else []
        elif isinstance(value, list | tuple):
            arguments += [f"{flag}={item}" for item in value]
        elif value is not None:
            arguments.append(f"{flag}={value}")
    return arguments

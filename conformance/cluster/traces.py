"""What a machine looks like from outside, so that a teardown can be held against what was there before.

`python -m conformance.cluster.traces FILE` notes it in FILE; where FILE is there already it says
what has come since, with exit code 1 when there is anything.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import which

from conformance.cluster.node.commands import run

_CGROUPS = Path("/sys/fs/cgroup")
_NAMESPACES = ("mnt", "net", "pid", "uts", "ipc")


def snapshot() -> dict[str, frozenset[str]]:
    """Processes, namespaces, mounts, links, routes, packet filter rules and cgroups by kind."""
    return {
        "processes": frozenset(_processes()),
        "namespaces": frozenset(_namespaces()),
        "mounts": frozenset(Path("/proc/self/mounts").read_text().splitlines()),
        "links": frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": frozenset(run(["ip", "-4", "route", "show"]).splitlines()),
        "rules": frozenset(_rules()),
        "cgroups": frozenset(str(path) for path in _CGROUPS.rglob("*") if path.is_dir()),
    }


def left_behind(
    before: Mapping[str, frozenset[str]], after: Mapping[str, frozenset[str]]
) -> dict[str, list[str]]:
    """What is there after and was not before, by kind; kinds without a difference are absent."""
    found = {kind: sorted(after[kind] - before[kind]) for kind in before}
    return {kind: extra for kind, extra in found.items() if extra}


def _processes() -> list[str]:
    """Processes that the lab could have started, by id and command; the machine's own come and go."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if b"RAG_LAB_STATE=" in (entry / "environ").read_bytes() or _foreign(entry):
                found.append(f"{entry.name} {(entry / 'comm').read_text().strip()}")
        except OSError:  # it ended meanwhile
            continue
    return found


def _foreign(process: Path) -> bool:
    """Whether the process lives in another PID namespace than this one."""
    return (process / "ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()


def _namespaces() -> set[str]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                found |= {str((entry / "ns" / kind).readlink()) for kind in _NAMESPACES}
            except OSError:
                continue
    return found


def _rules() -> list[str]:
    """iptables' rules without their counters; none where the machine has no iptables."""
    if which("iptables-save") is None:
        return []
    return [line for line in run(["iptables-save"]).splitlines() if line.startswith("-A")]


def main(file: Path) -> int:
    """Note the machine in `file`, or hold it against what is noted there."""
    now = snapshot()
    if not file.exists():
        file.write_text(json.dumps({kind: sorted(found) for kind, found in now.items()}))
        return 0
    before = {kind: frozenset(found) for kind, found in json.loads(file.read_text()).items()}
    extra = left_behind(before, now)
    for kind, found in extra.items():
        print(f"left behind: {kind}: {', '.join(found)}", file=sys.stderr)
    return 1 if extra else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

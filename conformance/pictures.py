"""`python -m conformance.pictures [--check]`: docs/pictures.md, drawn from the manifests."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from conformance.errors import SuiteError
from conformance.static import environment
from conformance.static.environment import ROOT, is_ours
from conformance.static.matrix import FILE

PAGE = ROOT / "docs" / "pictures.md"
_HEAD = """\
# Pictures

Drawn from the manifests by `make pictures`; a test holds them together.
"""
Edges = Mapping[str, frozenset[str]]


def page() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        "## Who may dial whom\n",
        _fenced(_flows()),
        "Dotted: only where a cluster's variables choose it. Everything else is refused.\n",
    ]
    for name in environment.names():
        parts += [f"## In which order Flux applies `{name}`\n", _fenced(_order(name))]
    return "\n".join(parts)


def _fenced(lines: Iterable[str]) -> str:
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```", ""])


def _flows() -> Iterator[str]:
    """`platform/network-policies/matrix.yaml`, its accounts by namespace; dotted where a cluster chooses."""
    data = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    ends = {end for flow in data["flows"] for end in (flow["from"], flow["to"])}
    for space in sorted({end.partition("/")[0] for end in ends}):
        yield f"  subgraph {space}"
        mine = sorted(end for end in ends if end.startswith(f"{space}/"))
        yield from (f"    {_id(end)}[{end.partition('/')[2]}]" for end in mine)
        yield "  end"
    for entry in data["outside"]:
        yield _arrow({"from": "clients", **entry})
    for entry in [*data["flows"], *data.get("leaving", [])]:
        yield _arrow({"to": "outside", **entry})


def _arrow(entry: Mapping[str, Any]) -> str:
    line = ("-. ", " .->") if {"when", "unless"} & entry.keys() else ("-- ", " -->")
    label = f"{', '.join(map(str, entry['ports']))}: {entry['why']}"
    return f'  {_id(entry["from"])} {line[0]}"{label}"{line[1]} {_id(entry["to"])}'


def _id(account: str) -> str:
    return account.replace("/", "_").replace("-", "_")


def _order(name: str) -> Iterator[str]:
    """The Kustomizations of a cluster: an arrow to each from what it waits for."""
    items = [item for item in environment.load(name).cluster if is_ours(item)]
    waits = {
        item["metadata"]["name"]: frozenset(d["name"] for d in item["spec"].get("dependsOn", []))
        for item in items
    }
    for item in sorted(waits):
        yield f"  {item}"
        yield from (f"  {first} --> {item}" for first in sorted(needed(waits, item)))


def needed(waits: Edges, item: str) -> frozenset[str]:
    """What `item` waits for, less what one of those waits for anyway."""
    direct = waits[item]
    return direct - {far for near in direct for far in _behind(waits, near)}


def _behind(waits: Edges, item: str) -> frozenset[str]:
    direct = waits.get(item, frozenset())
    return direct.union(*(_behind(waits, near) for near in direct))


def main(arguments: list[str] | None = None) -> int:
    """Draw; with --check 1 where the page is another. 2 where it cannot be drawn."""
    parser = argparse.ArgumentParser(prog="python -m conformance.pictures")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(arguments)
    try:
        drawn = page()
    except (SuiteError, KeyError, TypeError, yaml.YAMLError) as error:
        print(f"pictures: {error}", file=sys.stderr)
        return 2
    if given.check:
        same = given.page.is_file() and given.page.read_text(encoding="utf-8") == drawn
        print(f"{given.page}: {'as the manifests' if same else 'outdated, run `make pictures`'}")
        return 0 if same else 1
    given.page.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

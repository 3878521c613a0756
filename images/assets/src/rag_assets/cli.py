"""`rag-assets list | fetch NAME... | path NAME`."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from rag_assets.checksum import untouched
from rag_assets.errors import AssetError
from rag_assets.fetch import fetch, folder_of
from rag_assets.manifest import load_manifest


def _list() -> None:
    table = Table("name", "kind", "cached", "licence", box=None)
    for asset in load_manifest().values():
        cached = "yes" if untouched(folder_of(asset), asset.files) else "no"
        table.add_row(asset.name, asset.kind, cached, asset.licence)
    Console().print(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rag-assets", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what is declared, and what is cached")
    fetching = commands.add_parser("fetch", help="download and check, then print the paths")
    fetching.add_argument("names", nargs="+", metavar="NAME")
    fetching.add_argument("--verify", action="store_true", help="hash what is cached again")
    path = commands.add_parser("path", help="print the path, fetching if need be")
    path.add_argument("names", nargs=1, metavar="NAME")
    path.set_defaults(verify=False)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when it did, 1 with one line on standard error when it could not."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "list":
            _list()
        for name in getattr(arguments, "names", ()):
            print(fetch(name, verify=arguments.verify))
    except AssetError as error:
        print(f"rag-assets: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

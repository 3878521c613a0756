"""Tells of a file, whenever it changes: its digest and the kind of file system that it is on."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

EVERY_SECONDS = 0.25


def file_system(path: Path, mounts: str) -> str:
    """The type of the innermost mount that holds `path`, by the text of /proc/self/mounts."""
    found = [line.split(" ")[1:3] for line in mounts.splitlines()]
    holding = [(point, kind) for point, kind in found if path.is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1]  # of equals, any: the same point


def tell(path: Path) -> str:
    """One line of JSON about the file as it is."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    named = any(path.read_text(encoding="utf-8").strip() in value for value in os.environ.values())
    return json.dumps(
        {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "file_system": file_system(path.resolve(), mounts),
            "in_environment": named,
        }
    )


def watch(path: Path) -> None:
    """Tell for ever."""
    before = b""
    while True:
        try:
            if (now := path.read_bytes()) != before:
                before = now
                print(tell(path), flush=True)
        except OSError as error:
            print(json.dumps({"error": str(error)}), flush=True)
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))

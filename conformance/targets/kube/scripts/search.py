"""Searches every file below a folder for byte strings, given in hexadecimal; prints JSON."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

CHUNK = 4 << 20


def chunks(path: Path, overlap: int) -> Iterator[bytes]:
    """The file in pieces, each with the end of the one before."""
    kept = b""
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            yield kept + piece
            kept = (kept + piece)[-overlap:] if overlap else b""


def refuse(error: OSError) -> None:
    """A folder that cannot be read was not searched."""
    raise error


def search(folder: str, needles: list[bytes]) -> dict[str, object]:
    """Files and bytes read, and for each needle (in hexadecimal) the files that hold it."""
    overlap = max(map(len, needles)) - 1
    found: dict[str, list[str]] = {needle.hex(): [] for needle in needles}
    files = size = 0
    for where, _, names in os.walk(folder, onerror=refuse):
        for name in names:
            path = Path(where, name)
            held = set()
            for piece in chunks(path, overlap):
                held |= {needle for needle in needles if needle in piece}
                size += len(piece)
            files += 1
            for needle in held:
                found[needle.hex()].append(str(path.relative_to(folder)))
    return {"files": files, "bytes": size, "found": found}


if __name__ == "__main__":
    print(json.dumps(search(sys.argv[1], [bytes.fromhex(word) for word in sys.argv[2:]])))

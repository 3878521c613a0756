"""The `hub` source: files of a Hugging Face hub repository at a pinned revision, over HTTP."""

import os
from collections.abc import Mapping
from pathlib import Path

import httpx

from rag_assets.checksum import require
from rag_assets.errors import SourceError
from rag_assets.manifest import HubSource
from rag_assets.progress import Reporter

ENDPOINT = "HF_ENDPOINT"
DEFAULT_ENDPOINT = "https://huggingface.co"
TIMEOUT_SECONDS = 30.0


def _stream(client: httpx.Client, url: str, part: Path, reporter: Reporter) -> None:
    """Append to `part` what it still lacks."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is lacking; the checksum decides
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        reporter.start(url.rpartition("/")[2], int(response.headers.get("content-length", 0)))
        with part.open("ab" if resumed else "wb") as out:
            for block in response.iter_raw():
                out.write(block)
                reporter.advance(len(block))


def fetch_hub(
    source: HubSource, files: Mapping[str, str], target: Path, reporter: Reporter
) -> None:
    """Put `files` into `target`; an interrupted file continues where it stopped."""
    base = os.environ.get(ENDPOINT, DEFAULT_ENDPOINT).rstrip("/")
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT_SECONDS) as client:
        for name, digest in files.items():
            path, part = target / name, target / f"{name}.part"
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            url = f"{base}/{source.repo}/resolve/{source.revision}/{name}"
            try:
                _stream(client, url, part, reporter)
            except httpx.HTTPError as error:
                raise SourceError(f"{url}: {error or type(error).__name__}") from error
            require(part, digest)
            part.rename(path)

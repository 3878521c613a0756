"""`keep FOLDER COUNT`: dumps to the bucket, oldest backups out. `fetch FOLDER [NAME]`: one back, checked.

A backup is a folder of the bucket, below `BACKUP_PREFIX`, named after its UTC time. Its `manifest.json` is
written last: without one it is no backup.
"""

import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

MANIFEST, WAIT_SECONDS = "manifest.json", 7200
BUCKET, PREFIX = os.environ.get("BACKUP_BUCKET", "backups"), os.environ.get("BACKUP_PREFIX", "")


def _client() -> Any:
    keys = json.loads(Path(os.environ["S3_CREDENTIALS_FILE"]).read_text(encoding="utf-8"))
    return boto3.client(
        "s3",
        endpoint_url=os.environ.get("S3_ENDPOINT_URL"),
        aws_access_key_id=keys["username"],
        aws_secret_access_key=keys["password"],
        region_name=os.environ.get("AWS_REGION", "us-east-1"),
        config=Config(retries={"mode": "standard", "max_attempts": 10}, connect_timeout=5),
    )


def names(client: Any) -> list[str]:
    """Complete backups, oldest first."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
    found = (entry["Key"] for page in pages for entry in page.get("Contents", ()))
    keys = (key.removeprefix(PREFIX) for key in found)
    return sorted(key.split("/")[0] for key in keys if key.endswith(f"/{MANIFEST}"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def keep(client: Any, folder: Path, count: int) -> str:
    """Upload when the dumps are complete; then remove all but the newest `count` (at least one)."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not (folder / "complete").exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"no complete dump in {folder} after {WAIT_SECONDS} s")
        time.sleep(1)
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    dumps = sorted(folder.glob("*.dump"))
    for dump in dumps:
        client.upload_file(str(dump), BUCKET, f"{PREFIX}{name}/{dump.name}")
    sums = {dump.name: _sha256(dump) for dump in dumps}
    manifest = json.dumps(sums).encode()
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}{name}/{MANIFEST}", Body=manifest)
    for old in names(client)[: -max(1, count)]:
        _remove(client, old)
    return name


def _remove(client: Any, name: str) -> None:
    """The manifest first: what is half removed is no backup any more."""
    client.delete_object(Bucket=BUCKET, Key=f"{PREFIX}{name}/{MANIFEST}")
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=BUCKET, Prefix=f"{PREFIX}{name}/"
    )
    for page in pages:
        for entry in page.get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])


def fetch(client: Any, folder: Path, name: str | None) -> str:
    """The backup `name`, or the newest; raises `SystemExit` when it is not there or damaged."""
    there = names(client)
    if not there or (name and name not in there):
        raise SystemExit(f"bucket {BUCKET}: no complete backup {name or ''}; there are {there}")
    name = name or there[-1]
    manifest = client.get_object(Bucket=BUCKET, Key=f"{PREFIX}{name}/{MANIFEST}")
    sums = json.loads(manifest["Body"].read())
    for file, digest in sums.items():
        client.download_file(BUCKET, f"{PREFIX}{name}/{file}", str(folder / file))
        if _sha256(folder / file) != digest:
            raise SystemExit(f"backup {name}: {file} is not what was uploaded")
    (folder / "complete").touch()
    return name


def main() -> None:
    """The command line."""
    command, folder, more = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    if command == "keep":
        print(f"kept {keep(_client(), folder, int(more[0]))}")
    else:
        print(f"fetched {fetch(_client(), folder, more[0] if more and more[0] else None)}")


if __name__ == "__main__":
    main()

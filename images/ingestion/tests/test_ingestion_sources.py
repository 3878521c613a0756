"""Directories with traps in them, and a real S3 server."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from rag_ingestion import s3
from rag_ingestion.directory import DirectorySource
from rag_ingestion.errors import DocumentError, Reason, SourceError
from rag_ingestion.s3 import S3Source
from rag_ingestion.sources import SourceObject, open_source
from rag_ingestion.sync import ingest


def keys(folder: Path) -> list[str]:
    return [item.key for item in DirectorySource(folder).list()]


def test_order_hidden_and_links(folder, tmp_path):
    (tmp_path / "outside.md").write_text("secret")
    (folder / "b").mkdir()
    (folder / ".git").mkdir()
    for name in ("b/z.md", "a.md", ".hidden.md", ".git/config.md"):
        (folder / name).write_text(name)
    (folder / "out.md").symlink_to(tmp_path / "outside.md")
    (folder / "up").symlink_to(tmp_path)
    (folder / "in.md").symlink_to(folder / "a.md")
    (folder / "dangling.md").symlink_to(folder / "none.md")
    (folder / "loop.md").symlink_to(folder / "loop.md")
    os.mkfifo(folder / "pipe.md")
    assert keys(folder) == ["a.md", "b/z.md", "in.md"]


def test_a_link_to_the_root_is_followed(folder, tmp_path):
    (folder / "a.md").write_text("a")
    (tmp_path / "current").symlink_to(folder)
    assert keys(tmp_path / "current") == ["a.md"]


def test_a_directory_that_cannot_be_read_fails_the_listing(folder, monkeypatch):
    (folder / "a.md").write_text("a")
    (folder / "closed").mkdir()
    scan = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="closed: Permission denied"):
        keys(folder)


@pytest.fixture
def unreachable(monkeypatch):
    """Makes the file system fail for one name."""
    real = os.lstat

    def refuse(name):
        def lstat(path, **options):
            if Path(path).name == name:
                raise OSError(116, "Stale file handle", str(path))
            return real(path, **options)

        monkeypatch.setattr(os, "lstat", lstat)

    return refuse


def test_a_file_that_cannot_be_looked_at_fails_the_listing(folder, unreachable):
    (folder / "a.md").write_text("a")
    unreachable("a.md")
    with pytest.raises(SourceError, match="a.md: Stale file handle"):
        keys(folder)


def test_a_link_out_of_the_root_never_matters(folder, tmp_path, unreachable):
    (folder / "a.md").write_text("a")
    (folder / "out.md").symlink_to(tmp_path / "elsewhere.md")
    unreachable("elsewhere.md")
    assert keys(folder) == ["a.md"]


async def test_a_transient_error_deletes_nothing(folder, settings, memory, unreachable):
    for name in ("a.md", "b.md"):
        (folder / name).write_text(name)
    await ingest(str(folder), "bank", settings, store=memory)
    unreachable("a.md")
    with pytest.raises(SourceError, match="Stale"):
        await ingest(str(folder), "bank", settings, store=memory)
    assert set(memory.active) == {"a.md", "b.md"}


def test_a_file_that_goes_away(folder):
    (folder / "a.md").write_text("a")
    source = DirectorySource(folder)
    [item] = source.list()
    (folder / "a.md").unlink()
    with pytest.raises(DocumentError, match="No such file"):
        source.read(item, 10)
    folder.rmdir()
    with pytest.raises(SourceError, match="gone while being read"):
        source.read(item, 10)


def test_reads_no_more_than_the_limit(folder):
    (folder / "a.md").write_text("x" * 100)
    source = DirectorySource(folder)
    [item] = source.list()
    assert len(source.read(item, 10)) == 11


@pytest.mark.parametrize("location", ["https://host/x", "s3://", "s3:///prefix"])
def test_sources_that_are_none(location, settings):
    with pytest.raises(SourceError, match="give"):
        open_source(location, settings)


async def test_a_name_that_is_not_utf8(folder, settings, memory):
    (folder / "a.md").write_text("text")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.md")).write_text("other")
    report = await ingest(str(folder), "bank", settings, store=memory)
    assert [entry.reason for entry in report.set_aside] == [Reason.NAME]
    assert json.loads(report.to_json())["added"] == 1


async def test_a_file_that_grows_while_being_read(folder, settings, memory, monkeypatch):
    (folder / "a.md").write_text("text")
    monkeypatch.setattr(DirectorySource, "read", lambda self, item, limit: b"x" * (limit + 1))
    report = await ingest(str(folder), "bank", settings, store=memory)
    assert [entry.reason for entry in report.set_aside] == [Reason.TOO_LARGE]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    # weed adds 10000 for gRPC
    return port if port < 50_000 else free_port()


KEYS = {"username": "reader", "password": "reader-secret"}


@pytest.fixture(scope="module")
def weed(tmp_path_factory) -> Iterator[str]:
    """A SeaweedFS S3 server; the endpoint's URL."""
    folder = tmp_path_factory.mktemp("weed")
    identity = {
        "name": "reader",
        "credentials": [{"accessKey": KEYS["username"], "secretKey": KEYS["password"]}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    port = free_port()
    ports = {"master": free_port(), "volume": free_port(), "filer": free_port(), "s3": port}
    command = [
        str(Path(sys.executable).with_name("weed")),
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
        f"-s3.config={folder / 's3.json'}",
        "-volume.max=100",
        "-master.volumeSizeLimitMB=64",
        *(f"-{name}.port={number}" for name, number in ports.items()),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


@pytest.fixture
def bucket(weed, tmp_path, settings):
    """A bucket with a few objects, and settings to read it."""
    client = boto3.client(
        "s3",
        endpoint_url=weed,
        aws_access_key_id=KEYS["username"],
        aws_secret_access_key=KEYS["password"],
        region_name="us-east-1",
    )
    name = f"docs-{time.time_ns()}"
    for _ in range(240):
        try:
            client.create_bucket(Bucket=name)
            break
        except (BotoCoreError, ClientError):
            time.sleep(0.25)
    for key in ("hr/b.md", "hr/sub/a.md", "hr/.hidden.md", "hr-2/other.md", "top.md"):
        client.put_object(Bucket=name, Key=key, Body=f"content of {key}".encode())
    file = tmp_path / "s3-credentials.json"
    file.write_text(json.dumps(KEYS))
    changes = {"s3_endpoint_url": weed, "s3_credentials_file": file}
    return client, name, settings.model_copy(update=changes)


async def test_s3_sync(bucket, memory, monkeypatch):
    client, name, settings = bucket
    location = f"s3://{name}/hr"
    report = await ingest(location, "bank", settings, store=memory)
    assert set(memory.active) == {"b.md", "sub/a.md"}
    assert memory.active["b.md"][0].uri == f"s3://{name}/hr/b.md"
    assert report.added == 2

    reads: list[str] = []
    read = S3Source.read
    monkeypatch.setattr(
        S3Source,
        "read",
        lambda self, item, limit: reads.append(item.key) or read(self, item, limit),
    )
    client.put_object(Bucket=name, Key="hr/b.md", Body=b"another content")
    client.delete_object(Bucket=name, Key="hr/sub/a.md")
    client.put_object(Bucket=name, Key="hr/c.md", Body=b"third")
    report = await ingest(location, "bank", settings, store=memory)
    assert (report.added, report.changed, report.deleted, report.unchanged) == (1, 1, 1, 0)
    report = await ingest(location, "bank", settings, store=memory)
    assert report.unchanged == 2
    assert sorted(reads) == ["b.md", "c.md"]  # the third run read nothing: the ETags say it all

    with pytest.raises(SourceError, match="NoSuchBucket"):
        await ingest("s3://no-such-bucket", "bank", settings, store=memory, allow_empty=True)
    assert len(memory.active) == 2


def test_s3_credentials_are_read_for_each_use(bucket):
    _, name, settings = bucket
    source = open_source(f"s3://{name}", settings)
    assert [item.key for item in source.list()] == [
        "hr-2/other.md",
        "hr/b.md",
        "hr/sub/a.md",
        "top.md",
    ]
    settings.s3_credentials_file.write_text(json.dumps(KEYS | {"password": "wrong"}))
    with pytest.raises(SourceError, match=r"SignatureDoesNotMatch|AccessDenied|Forbidden"):
        list(source.list())
    settings.s3_credentials_file.unlink()
    with pytest.raises(SourceError, match="S3_CREDENTIALS_FILE"):
        list(source.list())


def test_s3_errors_of_one_object_and_of_the_server(bucket, monkeypatch):
    _, name, settings = bucket
    source = open_source(f"s3://{name}/hr", settings)
    item = next(iter(source.list()))
    gone = SourceObject("gone.md", "s3://x/gone.md", 1, item.modified_at)
    with pytest.raises(DocumentError, match="NoSuchKey"):
        source.read(gone, 10)
    assert source.read(item, 3) == b"cont"
    down = settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    monkeypatch.setattr(
        s3, "_CONFIG", s3._CONFIG.merge(s3.Config(retries={"total_max_attempts": 1}))
    )
    broken = open_source(f"s3://{name}/hr", down)
    with pytest.raises(SourceError, match="Could not connect"):
        list(broken.list())
    with pytest.raises(SourceError, match="Could not connect"):
        broken.read(item, 3)

"""The lab's object store as a process: the arguments of its manifest, the identities of the generator."""

import hashlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import yaml
from botocore.config import Config

from conformance.static.environment import ROOT
from conformance.tests._store_pods import free_port

LAB = ROOT / "apps/ingestion/lab"
GENERATOR = ROOT / "platform/secrets/lab/generator"


def secrets():
    """What the generator makes, from values of this test."""
    sys.path.insert(0, str(GENERATOR))
    try:
        import contents

        return contents.contents(lambda name: hashlib.sha256(name.encode()).digest())
    finally:
        sys.path.remove(str(GENERATOR))


@dataclass
class ObjectStore:
    url: str
    process: subprocess.Popen
    made: dict

    def keys(self, path, folder):
        """The credentials file that the injector renders for an account."""
        keys = self.made[f"{path}/object-store"]
        file = folder / f"{path.replace('/', '-')}.json"
        text = {"username": keys["access_key"], "password": keys["secret_key"]}
        file.write_text(json.dumps(text))
        return file

    def client(self, path):
        keys = self.made[f"{path}/object-store"]
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=keys["access_key"],
            aws_secret_access_key=keys["secret_key"],
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 2}, s3={"addressing_style": "path"}),
        )


def _arguments(folder, port):
    manifest = yaml.safe_load((LAB / "object-store/stateful-set.yaml").read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    paths = {"/data": str(folder / "data"), "/vault/secrets": str(folder), "=8333": f"={port}"}
    for argument in container["args"]:
        for old, new in paths.items():
            argument = argument.replace(old, new)
        yield argument
    for name in ("master", "volume", "filer"):
        own = free_port()
        while own > 50_000:  # weed adds 10000 for gRPC
            own = free_port()
        yield f"-{name}.port={own}"


@contextmanager
def running(folder):
    """The store, until the block ends."""
    (folder / "data").mkdir()
    made = secrets()
    (folder / "s3.json").write_text(made["rag-ingestion/object-store/s3"]["config"])
    port = free_port()
    while port > 50_000:
        port = free_port()
    words = [str(Path(sys.executable).with_name("weed")), *_arguments(folder, port)]
    log = (folder / "weed.log").open("w")
    with log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            _await(f"http://127.0.0.1:{port}/healthz", process, folder / "weed.log")
            yield ObjectStore(f"http://127.0.0.1:{port}", process, made)
        finally:
            process.kill()


def _await(url, process, log):
    """Until the probe of the manifest is green."""
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(log.read_text()[-3000:]) from None
            time.sleep(0.2)

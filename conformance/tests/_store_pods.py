"""The store's pods as processes: the very scripts and settings of apps/vectordb, at paths of a test."""

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from conformance.static.environment import ROOT
from ragctl import postgres

CONFIG = ROOT / "apps/vectordb/base/config"
_SMALL = ["-c", "shared_buffers=32MB", "-c", "max_connections=40"]


def _user():
    """Prefix of a command and name of the user that the server runs as: not root."""
    if os.geteuid() == 0:
        return postgres._drop_root(), "nobody"
    return [], getpass.getuser()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@dataclass
class Pod:
    """A server with its mounts below `root`: /etc/postgresql, /vault/secrets, /run, its volume."""

    root: Path
    port: int
    script: str
    primary_port: int = 0
    extra: dict = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def secrets(self):
        return self.root / "secrets"

    @property
    def environment(self):
        path = f"{postgres.programs()}:{os.environ['PATH']}"
        data = {"PATH": path, "PGDATA": str(self.root / "volume/data"), "PGPORT": str(self.port)}
        return {**os.environ, **data, **self.extra}

    def prepare(self):
        """The mounts, with this test's paths in the place of the pod's."""
        owner = _user()[1]
        for name in ("config", "secrets", "run", "volume"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for file in CONFIG.iterdir():
            text = file.read_text().replace("/etc/postgresql", str(self.root / "config"))
            text = text.replace("/vault/secrets", str(self.secrets))
            text = text.replace("/run/postgresql", str(self.root / "run"))
            text = text.replace(
                "host=vectordb port=5432", f"host=127.0.0.1 port={self.primary_port}"
            )
            text = text.replace("owner nobody", f"owner {owner}")
            (self.root / "config" / file.name).write_text(text)
        self._own()

    def secret(self, name, text):
        """A file of the injector."""
        self.secrets.mkdir(parents=True, exist_ok=True)
        path = self.secrets / name
        path.write_text(text)
        path.chmod(0o400)
        self._own()

    def _own(self):
        if os.geteuid() == 0:
            for path in (self.root, *self.root.rglob("*")):
                if "volume/data" not in str(path):
                    shutil.chown(path, "nobody", "nogroup")

    def start(self):
        """Run the pod's command; returns when its probe would be green."""
        log = (self.root / "log").open("ab")
        words = ["sh", str(self.root / "config" / self.script), *_SMALL]
        self.process = subprocess.Popen(
            [*_user()[0], *words],
            env=self.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        probe = ["pg_isready", "-q", "-h", "127.0.0.1", "-d", "rag", "-U", "backup"]
        self.wait(lambda: not self.run(*probe).returncode, "is ready")

    def wait(self, condition, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                tail = (self.root / "log").read_text()[-3000:]
                raise AssertionError(f"{self.script}: never {what}\n{tail}")
            time.sleep(0.1)

    def run(self, *words):
        return subprocess.run(
            [*_user()[0], *words], env=self.environment, capture_output=True, text=True
        )

    def sql(self, statement, database="rag"):
        """As the superuser, over the socket that only the container has."""
        words = ["psql", "-X", "-tA", "-h", str(self.root / "run"), "-U", "postgres"]
        done = self.run(*words, "-d", database, "-c", statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def connect(self, username, password, database="rag"):
        """As a client over the network."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            dbname=database,
            user=username,
            password=password,
            connect_timeout=5,
            autocommit=True,
        )

    def url(self):
        return f"postgresql://127.0.0.1:{self.port}/rag"

    def stop(self):
        """What preStop does."""
        if self.process is None or self.process.poll() is not None:
            return
        self.run("pg_ctl", "-m", "fast", "-w", "stop")
        self.process.wait(30)

    def kill(self):
        """The whole pod at once, as when its node goes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@contextmanager
def workplace():
    """A folder that the server's user reaches."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def credentials(path, login):
    path.write_text(json.dumps({"username": login["username"], "password": login["password"]}))
    return path

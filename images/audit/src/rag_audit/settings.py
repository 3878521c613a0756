"""Settings from environment variables; docs/interfaces.md lists them. None of them is a credential."""

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

S = TypeVar("S", bound=BaseSettings)


class ElasticsearchSettings(BaseSettings):
    """Where the index is, and the account's login."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    elasticsearch_url: str
    elasticsearch_credentials_file: Path
    elasticsearch_timeout_seconds: float = Field(30, gt=0)


class IndexerSettings(ElasticsearchSettings):
    """The log, the index, and how much goes from one to the other at a time."""

    bind: str = "127.0.0.1:8084"
    kafka_brokers: str
    kafka_credentials_file: Path | None = None
    audit_topic: str = "audit"
    audit_dead_letter_topic: str = "audit.dead-letter"
    audit_group: str = "audit-indexer"
    audit_batch_records: int = Field(500, ge=1, le=10_000)
    audit_batch_seconds: float = Field(1, gt=0)
    audit_backoff_seconds: float = Field(30, gt=0, le=120)
    log_level: str = "INFO"


class TemplateSettings(ElasticsearchSettings):
    """How an index of one day is laid out."""

    audit_index_shards: int = Field(1, ge=1)
    audit_index_replicas: int = Field(1, ge=0)
    audit_lifecycle: bool = False  # whether the server's own policy deletes days
    logs_retention_days: int | None = Field(None, ge=1)


class RetentionSettings(ElasticsearchSettings):
    """How long whole days are kept."""

    audit_retention_days: int = Field(ge=1)


class ReviewSettings(BaseSettings):
    """Where Kibana is, and the account's login."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    kibana_url: str
    kibana_credentials_file: Path


def load(kind: type[S], program: str) -> S:
    """The settings of this process; exit code 2 and one line that names each wrong variable."""
    try:
        return kind()
    except ValidationError as error:
        wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        print(f"{program}: settings: {wrong}", file=sys.stderr)
        raise SystemExit(2) from None

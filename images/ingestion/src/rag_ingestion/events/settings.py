"""Settings of the event consumer, beside those of every ingestion."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from rag_ingestion.settings import Settings


class EventSettings(Settings):
    """Where events come from, and what becomes of those that cannot be used."""

    bind: str = "127.0.0.1:8085"
    source_bucket: str = "s3://documents"
    events_url: str
    events_credentials_file: Path | None = None
    events_topic: str = "documents"
    events_dead_letter: str = "documents.dead-letter"
    events_group: str = "ingestion"
    events_retry_seconds: float = Field(60, gt=0, le=600)
    log_level: str = "INFO"

    @field_validator("events_url")
    @classmethod
    def _without_password(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("kafka", "amqp", "amqps") or not parts.netloc:
            raise ValueError("expected kafka://host:port[,host:port] or amqp://host:port/vhost")
        if "@" in parts.netloc:
            raise ValueError("a login belongs into EVENTS_CREDENTIALS_FILE")
        return url

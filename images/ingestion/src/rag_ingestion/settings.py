"""The settings of an ingestion run, from the environment; no credential among them, only files."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEGABYTE = 1_000_000


class Settings(BaseSettings):
    """Where the source, the embedder and the store are, and how documents are cut."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    embedding_url: str
    ingest_embedding_model: str | None = None
    vector_db_url: str
    vector_db_credentials_file: Path
    s3_endpoint_url: str | None = None
    s3_credentials_file: Path | None = None

    ingest_max_document_mb: float = Field(32, gt=0)
    ingest_convert_seconds: float = Field(120, gt=0)
    ingest_convert_memory_mb: int = Field(2048, ge=512)
    ingest_workers: int = Field(2, ge=1)
    ingest_retry_seconds: float = Field(120, ge=0)

    chunk_tokens: int = Field(200, ge=16)
    chunk_overlap: float = Field(0.1, ge=0, le=0.5)

    embed_batch: int = Field(32, ge=1)
    embed_in_flight: int = Field(4, ge=1)
    store_in_flight: int = Field(4, ge=1)

    @property
    def max_document_bytes(self) -> int:
        """The largest document that is taken, in bytes."""
        return int(self.ingest_max_document_mb * MEGABYTE)

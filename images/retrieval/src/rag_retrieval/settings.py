"""Settings from environment variables; docs/interfaces.md lists them."""

from enum import StrEnum
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from rag_retrieval.answer import Dialect
from rag_retrieval.errors import SettingsError
from rag_store.base import HnswParameters


class RerankBackend(StrEnum):
    """How candidates are ordered after the fused search."""

    LATE = "late"
    HTTP = "http"
    NONE = "none"


class Settings(BaseSettings):
    """Everything the service is told from outside; secrets are files, read at each use."""

    model_config = SettingsConfigDict(env_prefix="", extra="ignore", frozen=True)

    bind: str = "127.0.0.1:8080"
    embedding_url: str
    vector_db_url: str
    vector_db_credentials_file: Path
    llm_url: str
    llm_model: str
    llm_api_key_file: Path | None = None
    llm_dialect: Dialect = Dialect.LLAMA_CPP
    llm_max_tokens: int = Field(default=160, ge=16)
    llm_parallel: int = Field(default=4, ge=1)
    llm_max_queue: int = Field(default=64, ge=1)
    llm_cold_start_seconds: float = Field(default=0, ge=0)
    guard_url: str
    tenant_token_public_key_file: Path
    cache_url: str | None = None
    cache_credentials_file: Path | None = None
    cache_timeout_seconds: float = Field(default=0.05, gt=0)
    rerank_backend: RerankBackend = RerankBackend.LATE
    rerank_url: str | None = None
    rerank_model: str = "bge-reranker-v2-m3"
    rerank_api_key_file: Path | None = None
    rerank_strict: bool = False
    audit_sink: str
    audit_credentials_file: Path | None = None
    audit_segment_mb: float = Field(default=64, gt=0)
    audit_segment_seconds: float = Field(default=300, gt=0)
    audit_timeout_seconds: float = Field(default=5, gt=0)
    hnsw_ef_search: int = Field(default=HnswParameters().ef_search, ge=1, le=1000)
    retrieval_top_k: int = Field(default=20, ge=1, le=100)
    retrieval_top_n: int = Field(default=5, ge=1, le=100)
    context_tokens: int = Field(default=400, ge=32)
    answerable_from: float | None = Field(default=None, ge=0, le=1)
    deadline_retrieve_seconds: float = Field(default=5, gt=0)
    deadline_answer_seconds: float = Field(default=60, gt=0)
    staleness_poll_seconds: float = Field(default=15, gt=0)
    log_level: str = "INFO"


def load_settings() -> Settings:
    """The settings of this process; raises `SettingsError` naming every variable that is wrong."""
    try:
        settings = Settings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        reasons = (f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsError("; ".join(reasons)) from None
    if settings.rerank_backend is RerankBackend.HTTP and not settings.rerank_url:
        raise SettingsError("RERANK_URL: required with RERANK_BACKEND=http")
    return settings

"""Settings from the environment; `docs/interfaces.md` has the table."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """Settings of the embedding server."""

    bind: str = Field("127.0.0.1:8081", validation_alias="BIND")
    backend: Literal["onnx", "flagembedding"] = Field("onnx", validation_alias="EMBEDDING_BACKEND")
    model: str = Field("all-minilm-l6-v2", validation_alias="EMBEDDING_MODEL")
    precision: Literal["int8", "fp16", "fp32"] = Field(
        "int8", validation_alias="EMBEDDING_PRECISION"
    )
    reranker: str | None = Field(None, validation_alias="EMBEDDING_RERANKER")
    threads: int = Field(2, ge=1, validation_alias="EMBEDDING_THREADS")
    max_batch_tokens: int = Field(8192, ge=512, validation_alias="EMBEDDING_MAX_BATCH_TOKENS")
    max_queue: int = Field(4096, ge=1, validation_alias="EMBEDDING_MAX_QUEUE")

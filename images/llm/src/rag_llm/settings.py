"""Settings from environment variables."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """What an operator may set; see docs/interfaces.md."""

    bind: str = "127.0.0.1:8082"
    llm_model: str = "qwen2.5-coder-1.5b-instruct-q4_k_m"
    llm_threads: int = Field(default=2, ge=1, le=256)
    llm_context_tokens: int = Field(default=2048, ge=256, le=1_048_576)
    llm_parallel: int = Field(default=1, ge=1, le=64)
    llm_prompt_cache_mb: int = Field(default=256, ge=0)
    # Drafts of up to so many tokens, copied from where the last `ngram` tokens stood before: answers
    # quote their sources, and a batch costs little more than one token. 0 turns it off.
    llm_draft_ngram: int = Field(default=2, ge=0, le=32)
    llm_draft_tokens: int = Field(default=8, ge=1, le=64)
    llm_warmup_file: Path | None = None

    @field_validator("llm_model")
    @classmethod
    def _has_name(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("name a model of assets.yaml")
        return value

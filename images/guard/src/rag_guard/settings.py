"""The guard's settings, from the environment; none of them is a credential."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class Settings(BaseSettings):
    """See docs/interfaces.md."""

    bind: str = "unix:/run/rag/guard.sock"
    guard_api_keys_file: Path
    guard_signing_key_file: Path
    guard_jwks_file: Path | None = None
    guard_flag_log: Path
    guard_flag_log_mb: float = Field(default=32, gt=0)
    guard_embedding_url: str
    guard_model_file: Path | None = None
    guard_threshold: float | None = Field(default=None, gt=0, le=1)
    guard_limits_file: Path | None = None
    guard_limits_url: str | None = None
    guard_limits_credentials_file: Path | None = None

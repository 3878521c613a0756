"""How to reach an LLM, and how the servers that speak OpenAI's protocol differ."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Dialect(StrEnum):
    """The kind of server behind the URL."""

    OPENAI = "openai"
    LLAMA_CPP = "llama.cpp"
    VLLM = "vllm"
    TGI = "tgi"
    GEMINI = "gemini"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class LLMSettings:
    """An OpenAI-compatible server; `url` with or without its `/v1` (or other) path."""

    url: str
    model: str
    api_key_file: Path | None = None
    dialect: Dialect = Dialect.LLAMA_CPP
    max_tokens: int = 160
    connect_timeout_seconds: float = 5.0
    extra: Json = field(default_factory=dict)

    def request(self, messages: list[dict[str, str]], schema: Json) -> Json:
        """The body of a streamed chat completion whose output follows `schema`."""
        return {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._limits(),
            **self._format(schema),
            **({"cache_prompt": True} if self.dialect is Dialect.LLAMA_CPP else {}),
            **self.extra,
        }

    def _limits(self) -> Json:
        # OpenAI's reasoning models refuse both `max_tokens` and a temperature.
        if self.dialect is Dialect.OPENAI:
            return {"max_completion_tokens": self.max_tokens}
        return {"max_tokens": self.max_tokens, "temperature": 0, "seed": 0}

    def _format(self, schema: Json) -> Json:
        if self.dialect is Dialect.PLAIN:
            return {}
        if self.dialect is Dialect.TGI:
            return {"response_format": {"type": "json_object", "value": schema}}
        named = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}

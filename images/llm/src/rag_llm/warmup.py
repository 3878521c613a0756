"""The first prompt: it pages the weights in and fills the prefix cache."""

import json
from pathlib import Path

import httpx

from rag_llm.errors import WarmUpError

Message = dict[str, str]
_DEFAULT: list[Message] = [
    {"role": "system", "content": "You answer questions using only the numbered sources."},
    {"role": "user", "content": "[S1] The office opens at 9:00.\nQuestion: When does it open?"},
]
TIMEOUT_SECONDS = 300.0


def read_messages(path: Path | None) -> list[Message]:
    """The chat messages of a JSON file, or a short built-in prompt; raises `WarmUpError`."""
    if path is None:
        return _DEFAULT
    try:
        messages = json.loads(path.read_text("utf-8"))
        return [{"role": str(m["role"]), "content": str(m["content"])} for m in messages]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WarmUpError(f"{path}: expected a JSON list of chat messages ({error})") from error


def warm_up(client: httpx.Client, model: str, messages: list[Message]) -> int:
    """Prompt tokens that are in the cache now; raises `WarmUpError`."""
    body = {"model": model, "messages": messages, "max_tokens": 1, "temperature": 0}
    try:
        response = client.post("/v1/chat/completions", json=body, timeout=TIMEOUT_SECONDS)
        return int(response.raise_for_status().json()["usage"]["prompt_tokens"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise WarmUpError(f"the engine did not answer the first prompt: {error}") from error

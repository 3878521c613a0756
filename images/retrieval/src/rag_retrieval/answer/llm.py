"""A client of any OpenAI-compatible chat completion server, streaming."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from rag_common.files import read_secret
from rag_common.http import UNIX, async_client
from rag_retrieval.answer.errors import LLMError, LLMTimeoutError, LLMUnavailableError
from rag_retrieval.answer.settings import Json, LLMSettings

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_STARTING = frozenset({502, 503, 504})
PROBE_TIMEOUT_SECONDS = 2.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.25, 4.0


@dataclass(slots=True)
class Completion:
    """What is known of a completion once its stream has ended."""

    model: str = ""
    finish_reason: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict)
    first_token_seconds: float | None = None


class LLMClient:
    """Streams completions; waits for a server that is starting or busy while time is left."""

    def __init__(self, settings: LLMSettings, client: httpx.AsyncClient | None = None) -> None:
        self.settings = settings
        self._client = client or async_client(
            settings.url, timeout=settings.connect_timeout_seconds
        )
        self._path = completions_path(settings.url)
        self._models = self._path.removesuffix("chat/completions") + "models"
        self.last_seen: float | None = None  # of time.monotonic: when the server last answered

    async def close(self) -> None:
        """Release connections."""
        await self._client.aclose()

    async def answers(self) -> bool:
        """Whether a server is there, be it one that refuses; while it starts none is."""
        try:
            response = await self._client.get(
                self._models, headers=self._headers(), timeout=PROBE_TIMEOUT_SECONDS
            )
        except httpx.TransportError:
            return False
        return self._seen(response.status_code not in _STARTING)

    def _seen(self, there: bool = True) -> bool:
        if there:
            self.last_seen = time.monotonic()
        return there

    async def stream(
        self, messages: list[dict[str, str]], schema: Json, deadline: float, into: Completion
    ) -> AsyncGenerator[str]:
        """Pieces of the answer's text until `deadline` (of `time.monotonic`); fills `into`.

        Raises `LLMUnavailableError`, `LLMTimeoutError` at the deadline, else `LLMError`.
        """
        body, started = self.settings.request(messages, schema), time.monotonic()
        response = await self._open(body, deadline)
        try:
            lines = response.aiter_lines()
            while (line := await _next_line(lines, deadline)) is not None:
                self._seen()
                if piece := _read_event(line, into):
                    into.first_token_seconds = (
                        into.first_token_seconds or time.monotonic() - started
                    )
                    yield piece
        finally:
            await response.aclose()

    async def _open(self, body: Json, deadline: float) -> httpx.Response:
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                return await self._post(body, deadline)
            except LLMTimeoutError:
                raise
            except LLMUnavailableError:
                if time.monotonic() + wait >= deadline:
                    raise
            await asyncio.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    async def _post(self, body: Json, deadline: float) -> httpx.Response:
        left = _left(deadline)
        connect = min(left, self.settings.connect_timeout_seconds)
        request = self._client.build_request(
            "POST",
            self._path,
            json=body,
            headers=self._headers(),
            timeout=httpx.Timeout(left, connect=connect),
        )
        try:
            response = await self._client.send(request, stream=True)
        except httpx.ConnectError as error:
            raise LLMUnavailableError(f"cannot connect to the LLM server: {error}") from error
        except httpx.ConnectTimeout as error:
            raise LLMUnavailableError("the LLM server does not accept connections") from error
        except httpx.TimeoutException as error:
            raise LLMTimeoutError("no answer from the LLM server before the deadline") from error
        except httpx.TransportError as error:
            raise LLMUnavailableError(f"LLM connection: {type(error).__name__}") from error
        if response.status_code != httpx.codes.OK:
            await _refuse(response)
        return response

    def _headers(self) -> dict[str, str]:
        if self.settings.api_key_file is None:
            return {}
        return {"Authorization": f"Bearer {read_secret(self.settings.api_key_file)}"}


def completions_path(url: str) -> str:
    """The endpoint's path below `url`: `/v1` is added unless the URL has a path of its own."""
    has_path = not url.startswith(UNIX) and urlsplit(url).path.strip("/")
    return "chat/completions" if has_path else "v1/chat/completions"


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise LLMTimeoutError("the deadline has passed")
    return left


async def _refuse(response: httpx.Response) -> None:
    await response.aclose()  # unread: a provider's error body may quote the prompt or the key
    kind = LLMUnavailableError if response.status_code in _BUSY else LLMError
    raise kind(f"the LLM server answered {response.status_code}")


async def _next_line(lines: AsyncIterator[str], deadline: float) -> str | None:
    try:
        async with asyncio.timeout(_left(deadline)):
            return await anext(lines, None)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise LLMTimeoutError("the LLM did not finish before the deadline") from error
    except httpx.TransportError as error:
        raise LLMError(f"the LLM's stream broke off: {type(error).__name__}") from error


def _read_event(line: str, into: Completion) -> str:
    if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
        return ""
    try:
        event: dict[str, Any] = json.loads(data)
        if "error" in event:
            raise LLMError("the LLM server reported an error in its stream")
        into.model = event.get("model") or into.model
        into.usage = _usage(event) or into.usage
        return _read_choices(event.get("choices") or [], into)
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise LLMError(f"the LLM's stream is malformed ({type(error).__name__})") from error


def _usage(event: Mapping[str, Any]) -> dict[str, int]:
    usage = event.get("usage") or {}
    return {name: int(value) for name, value in usage.items() if isinstance(value, int)}


def _read_choices(choices: list[dict[str, Any]], into: Completion) -> str:
    if not choices:
        return ""
    into.finish_reason = choices[0].get("finish_reason") or into.finish_reason
    return (choices[0].get("delta") or {}).get("content") or ""

"""Calls to the JSON services beside this one, with the request's deadline and the retry budget."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx
import orjson

from rag_common.http import async_client
from rag_retrieval.deadline import Deadline
from rag_retrieval.errors import (
    DeadlineExceededError,
    UpstreamRejectedError,
    UpstreamUnavailableError,
)
from rag_retrieval.retry import RetryBudget, call

Headers = Callable[[], Mapping[str, str]]
_BUSY = frozenset({429, 500, 502, 503, 504})
# Our servers close a connection that was idle for five seconds; be the first to let go.
_LIMITS = httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=4)
_JSON = {"content-type": "application/json"}


class Peer:
    """A JSON service at `http://host:port` or `unix:/path`, known as `service` in errors."""

    def __init__(
        self, service: str, url: str, budget: RetryBudget, *, headers: Headers | None = None
    ) -> None:
        self.service = service
        self._budget, self._headers = budget, headers or dict
        self._client = async_client(url, timeout=5.0, limits=_LIMITS)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(self, path: str, *, timeout: float) -> Any:  # noqa: ASYNC109 - httpx enforces it
        """The JSON at `path`; raises `UpstreamError`."""
        request = self._client.build_request("GET", path, timeout=timeout)
        return await self._send(request, Deadline.after(timeout))

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        deadline: Deadline,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The JSON answer; raises `UpstreamError` or `DeadlineExceededError`."""
        content = orjson.dumps(body)

        async def attempt() -> Any:
            deadline.check(self.service)
            sent = {**_JSON, **self._headers(), **(headers or {})}
            request = self._client.build_request(
                "POST", path, content=content, headers=sent, timeout=deadline.remaining()
            )
            return await self._send(request, deadline)

        return await call(attempt, budget=self._budget, deadline=deadline)

    async def _send(self, request: httpx.Request, deadline: Deadline) -> Any:
        try:
            async with deadline.bound(self.service):
                response = await self._client.send(request)
        except httpx.TimeoutException:
            raise DeadlineExceededError(self.service, deadline.budget) from None
        except httpx.TransportError as error:
            detail = f"cannot be reached ({type(error).__name__})"
            raise UpstreamUnavailableError(self.service, detail) from error
        return self._read(response)

    def _read(self, response: httpx.Response) -> Any:
        if response.status_code in _BUSY:
            raise UpstreamUnavailableError(self.service, _reason(response))
        if response.status_code >= 300:
            raise UpstreamRejectedError(
                self.service, _reason(response), status=response.status_code
            )
        try:
            return orjson.loads(response.content)
        except ValueError:
            raise UpstreamRejectedError(self.service, "the answer is not JSON") from None


def _reason(response: httpx.Response) -> str:
    """Status and the problem's detail; other bodies may echo what they were sent, so not those."""
    problem = response.headers.get("content-type", "").startswith("application/problem+json")
    try:
        detail = str(orjson.loads(response.content).get("detail", "")) if problem else ""
    except (ValueError, AttributeError):
        detail = ""
    return f"status {response.status_code} {detail[:200]}".rstrip()

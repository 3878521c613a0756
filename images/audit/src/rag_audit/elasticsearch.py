"""Calls to Elasticsearch's REST API with a login that is read again for each."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from rag_audit.errors import AuditError, UnavailableError
from rag_audit.settings import ElasticsearchSettings
from rag_common.files import SecretFileError, read_credentials

# Not only 5xx: a login or a right that is missing now may be there after a rotation.
_LATER = frozenset({401, 403, 404, 408, 429})
_DETAIL = 300


def later(status: int) -> bool:
    """Whether the same may succeed when it is asked again."""
    return status in _LATER or status >= 500


class Elasticsearch:
    """A client of one server; use it as a context manager."""

    def __init__(
        self, settings: ElasticsearchSettings, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._credentials_file = settings.elasticsearch_credentials_file
        self._client = httpx.Client(
            base_url=settings.elasticsearch_url,
            timeout=settings.elasticsearch_timeout_seconds,
            trust_env=False,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer; raises `UnavailableError` when asking again may help, else `AuditError`."""
        return self._send(method, path, orjson.dumps(body) if body is not None else b"")

    def bulk(self, lines: Sequence[bytes]) -> list[dict[str, Any]]:
        """The result of each action of the lines; errors as in `call`."""
        path = "/_bulk?filter_path=items.*.status,items.*.error.type,items.*.error.reason"
        answer = self._send("POST", path, b"\n".join([*lines, b""]))
        return [next(iter(item.values())) for item in answer["items"]]

    def _send(self, method: str, path: str, content: bytes) -> Any:
        headers = {"content-type": "application/x-ndjson" if "_bulk" in path else _JSON}
        try:
            login = read_credentials(self._credentials_file)
            answer = self._client.request(
                method, path, content=content or None, headers=headers, auth=(login[0], login[1])
            )
        except (httpx.HTTPError, SecretFileError) as error:
            raise UnavailableError(f"elasticsearch: {error or type(error).__name__}") from error
        if answer.is_success:
            return orjson.loads(answer.content)
        said = f"elasticsearch: {method} {path.partition('?')[0]}: {answer.status_code}"
        kind = UnavailableError if later(answer.status_code) else AuditError
        raise kind(f"{said} {answer.text[:_DETAIL]}")


_JSON = "application/json"

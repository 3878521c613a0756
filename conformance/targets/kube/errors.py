"""What the API server answers: objects, and refusals as probe errors."""

import json
from typing import Any

from kubernetes.client.exceptions import ApiException

from conformance.gate import ProbeError

Object = dict[str, Any]
Objects = list[Object]


class ApiError(ProbeError):
    """The API server refused or did not answer; `status` is 0 without an HTTP answer."""

    def __init__(self, what: str, status: int, message: str) -> None:
        super().__init__(f"{what}: {status or 'no answer'}: {message}")
        self.status = status
        self.message = message


def api_error(what: str, error: Exception) -> ApiError:
    """The error of the transport or the API server, told with what was tried."""
    if not isinstance(error, ApiException):
        return ApiError(what, 0, f"{type(error).__name__}: {error}")
    return ApiError(what, int(error.status or 0), _message(error))


def _message(error: ApiException) -> str:
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        return str(json.loads(body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(body or error.reason)[:500]

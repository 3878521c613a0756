"""Errors over HTTP as application/problem+json (RFC 9457)."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - the RFC's own word
    """An error with an HTTP status, a short title and a reason that the caller can act on."""

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(f"{title}: {detail}")
        self.status, self.title, self.detail = status, title, detail
        self.headers, self.extra = headers, extra

    def body(self) -> dict[str, Any]:
        """The members of the problem document."""
        return {"title": self.title, "status": self.status, "detail": self.detail, **self.extra}


def problem_response(problem: Problem) -> JSONResponse:
    """The HTTP response that carries `problem`."""
    return JSONResponse(
        problem.body(), status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers
    )


def _where(location: tuple[Any, ...]) -> str:
    return ".".join(str(part) for part in location)


async def _on_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return problem_response(error)


async def _on_validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    reasons = "; ".join(f"{_where(e['loc'])}: {e['msg']}" for e in error.errors())
    return problem_response(Problem(422, "The request is not valid", reasons))


async def _on_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    return problem_response(
        Problem(error.status_code, str(error.detail), str(error.detail), headers=headers)
    )


def install_problem_handlers(app: FastAPI) -> None:
    """Make every error of `app` a problem document, unexpected ones included."""

    async def on_crash(_: Request, error: Exception) -> JSONResponse:
        return problem_response(
            Problem(500, "Internal error", f"{type(error).__name__}; the log has the details")
        )

    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, on_crash)

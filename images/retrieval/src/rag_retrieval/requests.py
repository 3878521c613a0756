"""What the endpoints accept; a body with anything else is refused."""

from typing import Annotated, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rag_common.problem import Problem
from rag_store.base import SearchMode

MAX_BODY_BYTES = 64 * 1024
MAX_QUERY_CHARACTERS = 8192


def _text(value: str) -> str:
    if "\x00" in value:
        raise ValueError("contains a NUL character")
    if not value.strip():
        raise ValueError("is empty")
    return value.strip()


Text = Annotated[str, Field(max_length=MAX_QUERY_CHARACTERS), AfterValidator(_text)]


class RetrieveRequest(BaseModel):
    """The body of `POST /v1/retrieve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: Text
    top_n: int | None = Field(default=None, ge=1, le=100)
    mode: SearchMode = SearchMode.HYBRID
    rerank: bool = True
    exact: bool = False


class AnswerRequest(BaseModel):
    """The body of `POST /v1/answer`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: Text
    stream: bool = False


M = TypeVar("M", bound=BaseModel)


async def read_body(request: Request, model: type[M]) -> M:
    """The body as `model`; raises `Problem` 400 (a tenant or another unknown field), 413 or 422."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise Problem(413, "Too large", f"a body has at most {MAX_BODY_BYTES} bytes")
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> Problem:
    errors = error.errors(include_url=False, include_input=False)
    reasons = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in errors)
    kinds = {e["type"] for e in errors}
    status = 400 if kinds & {"extra_forbidden", "json_invalid"} else 422
    return Problem(status, "The request is not valid", reasons)


def schema_of(model: type[BaseModel]) -> dict[str, object]:
    """The OpenAPI description of a body that `read_body` reads."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}

"""The bodies of requests, with OpenAI's and Cohere's names."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr

from rag_common.problem import Problem

MAX_INPUTS = 2048
Text = Annotated[StrictStr, Field(min_length=1)]


class EmbeddingRequest(BaseModel):
    """`POST /v1/embeddings`; `outputs` and `input_type` are extensions."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    input: Any
    encoding_format: Literal["float", "base64"] = "float"
    outputs: Annotated[list[Literal["dense", "sparse", "late"]], Field(min_length=1)] = ["dense"]
    input_type: Literal["document", "query"] = "document"

    def inputs(self) -> list[str] | list[list[int]]:
        """The texts, or the token ids of each; raises `Problem` (400) that says what is wrong."""
        value = self.input
        if isinstance(value, str) or (isinstance(value, list) and _is_ids(value)):
            value = [value]
        if not isinstance(value, list) or not value:
            raise _invalid("expected a text, or a list of at least one")
        if len(value) > MAX_INPUTS:
            raise _invalid(f"{len(value)} inputs, at most {MAX_INPUTS} in a request")
        for index, item in enumerate(value):
            _check_item(index, item, type(value[0]))
        return value


def _invalid(reason: str) -> Problem:
    return Problem(400, "The input is not valid", f"input: {reason}")


def _is_ids(value: Any) -> bool:
    return bool(value) and all(type(item) is int for item in value)


def _check_item(index: int, item: Any, kind: type) -> None:
    if type(item) is not kind:
        raise _invalid(f"item {index} is a {type(item).__name__}, item 0 a {kind.__name__}")
    if not isinstance(item, str) and not (isinstance(item, list) and (not item or _is_ids(item))):
        raise _invalid(f"item {index} is neither a text nor a list of token ids")
    if not item:
        raise _invalid(f"item {index} is empty")


class RerankDocument(BaseModel):
    """A document given as an object."""

    text: Text


class RerankRequest(BaseModel):
    """`POST /v1/rerank`, in Cohere's shape."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = None
    query: Text
    documents: Annotated[list[Text | RerankDocument], Field(min_length=1, max_length=1000)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False

    @property
    def texts(self) -> list[str]:
        """The documents as text."""
        return [d if isinstance(d, str) else d.text for d in self.documents]

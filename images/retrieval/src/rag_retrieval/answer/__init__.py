"""Cited answers from retrieved passages by any OpenAI-compatible model."""

from rag_retrieval.answer.answerer import Answerer, Prepared
from rag_retrieval.answer.errors import (
    AnswerError,
    LLMError,
    LLMTimeoutError,
    LLMUnavailableError,
)
from rag_retrieval.answer.llm import LLMClient
from rag_retrieval.answer.prompt import PROMPT_VERSION
from rag_retrieval.answer.settings import Dialect, LLMSettings
from rag_retrieval.evidence import Embed

__all__ = [
    "PROMPT_VERSION",
    "AnswerError",
    "Answerer",
    "Dialect",
    "Embed",
    "LLMClient",
    "LLMError",
    "LLMSettings",
    "LLMTimeoutError",
    "LLMUnavailableError",
    "Prepared",
]

"""Orders the candidates of the fused search."""

from rag_retrieval.rerank.base import Reranker, fused
from rag_retrieval.rerank.http import HttpReranker
from rag_retrieval.rerank.late import LateReranker
from rag_retrieval.rerank.none import NoReranker

__all__ = ["HttpReranker", "LateReranker", "NoReranker", "Reranker", "fused"]

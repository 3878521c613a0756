"""Decides whether a sentence is supported by a chunk it cites, by a method of its own.

It shares neither model nor code with the pipeline's verifier: no embeddings, only alignment of
stems, names, numbers with units, negations and opposites, weighed by a logistic regression.
"""

from conformance.judge.model import Judge, JudgeError, load

__all__ = ["Judge", "JudgeError", "load"]

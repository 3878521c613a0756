"""Ratios measured in one run; see README.md."""

import os

BLAS_THREADS = "OPENBLAS_NUM_THREADS"
# The asking process reranks as the retrieval service does; see rag_retrieval.
os.environ.setdefault(BLAS_THREADS, "1")

"""Layer 4: hybrid retrieval, rerank, cited answers, audit."""

"""Query vectors from the embedding service."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from conformance.gate import Context, ProbeError

_BATCH = 64


def embed(context: Context, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Unit vectors of shape (len(texts), dimension)."""
    rows: list[list[float]] = []
    with context.target.embedding() as client:
        model = client.get("/v1/models").raise_for_status().json()["data"][0]["id"]
        for start in range(0, len(texts), _BATCH):
            body = {
                "model": model,
                "input": list(texts[start : start + _BATCH]),
                "input_type": "query",
            }
            data = client.post("/v1/embeddings", json=body).raise_for_status().json()["data"]
            rows += [item["embedding"] for item in data]
    if len(rows) != len(texts):
        raise ProbeError(f"{len(texts)} texts gave {len(rows)} vectors")
    return np.asarray(rows, dtype=np.float32)

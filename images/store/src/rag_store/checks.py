"""What every store checks alike before it acts."""

import hashlib
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit

import numpy as np

from rag_common.tenancy import InvalidTenantError, tenant_name
from rag_store.base import (
    EmbeddedChunk,
    EmbeddingModel,
    Generation,
    ModelMismatchError,
    SearchMode,
    StoreError,
    UnknownTenantError,
    Vector,
)


def checked_url(url: str) -> str:
    """`url` itself; raises `StoreError` when it carries a username or a password."""
    parts = urlsplit(url)
    secret = {"user", "password", "passfile", "api_key", "token"} & set(parse_qs(parts.query))
    if parts.username or parts.password or secret:
        raise StoreError(
            f"store URL for {parts.hostname or 'a local socket'}: it carries credentials; "
            "put them into the credentials file and leave only host, port and database"
        )
    return url


def known_tenant(tenant: str) -> str:
    """`tenant` when it may be the name of one, else `UnknownTenantError`."""
    try:
        return tenant_name(tenant)
    except InvalidTenantError as error:
        raise UnknownTenantError(str(error)) from error


def generation_id(model: EmbeddingModel) -> str:
    """A short stable id of the model's generation, safe in any store's names."""
    return hashlib.sha256(model.digest.encode()).hexdigest()[:12]


def check_model(generation: Generation, digest: str | None, dense: Vector | None) -> None:
    """Raise `ModelMismatchError` unless the query's vectors belong to the generation."""
    model = generation.model
    if digest is not None and digest != model.digest:
        raise ModelMismatchError(
            f"the query's vectors come from model {digest}, "
            f"the active generation {generation.id} from {model.digest} ({model.name})"
        )
    if dense is not None and dense.shape != (model.dimension,):
        raise ModelMismatchError(
            f"the query's vector has shape {dense.shape}, "
            f"the active generation {generation.id} needs ({model.dimension},)"
        )


def check_query(mode: SearchMode, dense: Vector | None, limit: int) -> None:
    """Raise `StoreError` for a search that cannot run."""
    if limit < 1:
        raise StoreError(f"limit {limit}: at least 1")
    if dense is None and mode is not SearchMode.LEXICAL:
        raise StoreError(f"a {mode.value} search needs a dense vector")
    if dense is not None and not np.isfinite(dense).all():
        raise StoreError("the query's vector holds a NaN or an infinity")


def check_chunks(doc_id: str, chunks: Sequence[EmbeddedChunk], dimension: int) -> None:
    """Raise `StoreError` for vectors that an index cannot hold or chunks of another document."""
    for item in chunks:
        name = item.chunk.chunk_id
        if item.chunk.doc_id != doc_id:
            raise StoreError(f"chunk {name} belongs to {item.chunk.doc_id}, not to {doc_id}")
        if item.dense.shape != (dimension,):
            raise StoreError(f"chunk {name}: vector {item.dense.shape}, expected ({dimension},)")
        if not np.isfinite(item.dense).all() or not item.dense.any():
            raise StoreError(f"chunk {name}: the vector is zero or holds a NaN or an infinity")

"""llama.cpp in this process, listening on a private Unix socket."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rag_llm.errors import EngineError
from rag_llm.settings import Settings

WARNINGS = 2  # llama.cpp's level: errors and warnings


@contextmanager
def engine(settings: Settings, weights: Path) -> Iterator[str]:
    """Run the engine; yields its address (`unix:/path`). Raises `EngineError`."""
    with tempfile.TemporaryDirectory(prefix="rag-llm-") as folder:  # mode 0700
        socket = Path(folder, "engine.sock")
        server = _start(settings, weights, socket)
        try:
            yield f"unix:{socket}"
        finally:
            del server  # its destructor stops the loop and frees the slots


def _start(settings: Settings, weights: Path, socket: Path) -> Any:
    # Spinning OpenMP threads take the CPU from everybody else; read once, when the library loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import xllamacpp

    try:
        params = _parameters(xllamacpp.CommonParams(), settings, weights, socket)
        if settings.llm_draft_ngram:
            kinds = xllamacpp.common_speculative_type
            params.speculative.types = [kinds.COMMON_SPECULATIVE_TYPE_NGRAM_SIMPLE]
            lookup = params.speculative.ngram_simple
            lookup.size_n, lookup.size_m = settings.llm_draft_ngram, settings.llm_draft_tokens
        return xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        raise EngineError(f"{weights}: the engine does not start: {error}") from error


def _parameters(params: Any, settings: Settings, weights: Path, socket: Path) -> Any:
    params.model.path = str(weights)
    params.model_alias = {settings.llm_model}
    params.hostnames, params.port = [str(socket)], 0
    params.n_ctx = settings.llm_context_tokens * settings.llm_parallel
    params.n_parallel = settings.llm_parallel
    params.cpuparams.n_threads = settings.llm_threads
    params.cpuparams_batch.n_threads = settings.llm_threads
    params.n_gpu_layers = 0
    params.cache_prompt, params.cache_ram_mib = True, settings.llm_prompt_cache_mb
    params.endpoint_metrics, params.ui, params.endpoint_slots = True, False, False
    params.verbosity = WARNINGS
    return params

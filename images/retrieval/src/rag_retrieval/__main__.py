"""`python -m rag_retrieval`: the service until SIGTERM."""

import math
import sys

from rag_common.http import serve
from rag_common.log import configure_logging
from rag_retrieval.app import create_app
from rag_retrieval.errors import SettingsError
from rag_retrieval.parts import open_parts
from rag_retrieval.settings import load_settings
from rag_store import open_store
from rag_store.base import HnswParameters, StoreError


def main() -> int:
    """Serve; 2 with one line on standard error when a setting is wrong."""
    try:
        settings = load_settings()
        configure_logging("rag-retrieval", settings.log_level)
        hnsw = HnswParameters(ef_search=settings.hnsw_ef_search)
        store = open_store(settings.vector_db_url, settings.vector_db_credentials_file, hnsw=hnsw)
        app = create_app(open_parts(settings, store))
        longest = settings.deadline_answer_seconds + settings.llm_cold_start_seconds
        serve(app, settings.bind, drain_seconds=math.ceil(longest))
    except (SettingsError, StoreError, ValueError, OSError) as error:
        print(f"rag_retrieval: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

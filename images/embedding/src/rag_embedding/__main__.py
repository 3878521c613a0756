"""`python -m rag_embedding`: load the model, then serve."""

import sys

from pydantic import ValidationError

from rag_common.http import serve
from rag_common.log import configure_logging
from rag_common.telemetry import configure_tracing
from rag_embedding.app import create_app
from rag_embedding.backend import BackendError, open_backend
from rag_embedding.settings import Settings


def main() -> int:
    """Serve until SIGTERM; 2 when the settings or the model are not usable."""
    configure_logging("embedding")
    try:
        settings = Settings()  # type: ignore[call-arg]  # from the environment
        app = create_app(open_backend(settings), settings)
    except (ValidationError, BackendError) as error:
        print(f"rag_embedding: {error}", file=sys.stderr)
        return 2
    configure_tracing(app, "embedding")
    serve(app, settings.bind)
    return 0


if __name__ == "__main__":
    sys.exit(main())

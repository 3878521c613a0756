"""`python -m rag_embedding.prepare`: all that the server starts from, for a cache that it may only read."""

import sys

from pydantic import ValidationError

from rag_embedding.backend import BackendError, open_backend
from rag_embedding.settings import Settings


def main() -> int:
    """Load the model once, which fetches it and keeps its graph; 2 when it is not usable."""
    try:
        open_backend(Settings())  # type: ignore[call-arg]  # from the environment
    except (ValidationError, BackendError) as error:
        print(f"rag_embedding.prepare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m rag_guard`."""

import sys

from pydantic import ValidationError

from rag_common.http import serve
from rag_common.log import configure_logging
from rag_common.telemetry import configure_tracing
from rag_guard.app import create_app
from rag_guard.classifier import Classifier
from rag_guard.embedding import EmbeddingClient
from rag_guard.limits import Limiter, Limits, LimitsError, open_counter
from rag_guard.model import Model, ModelError
from rag_guard.settings import Settings


def main() -> None:
    """Serve until SIGTERM; exit code 2 when a setting or the model is missing or wrong."""
    configure_logging("rag-guard")
    try:
        settings = Settings()  # type: ignore[call-arg]  # from the environment
    except ValidationError as error:
        wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        print(f"rag-guard: settings: {wrong}", file=sys.stderr)
        raise SystemExit(2) from None
    try:
        model = Model.load(settings.guard_model_file)
        limiter = _limiter(settings)
    except (ModelError, LimitsError) as error:
        print(f"rag-guard: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    embedder = EmbeddingClient(settings.guard_embedding_url)
    app = create_app(settings, Classifier(model, embedder, settings.guard_threshold), limiter)
    configure_tracing(app, "rag-guard")
    serve(app, settings.bind)


def _limiter(settings: Settings) -> Limiter | None:
    """Over the limits' file and its counter; both are set, or neither (the gateway limits then)."""
    if (settings.guard_limits_file is None) != (settings.guard_limits_url is None):
        raise LimitsError("set both GUARD_LIMITS_FILE and GUARD_LIMITS_URL, or neither")
    if settings.guard_limits_file is None or settings.guard_limits_url is None:
        return None
    counter = open_counter(settings.guard_limits_url, settings.guard_limits_credentials_file)
    return Limiter(Limits(settings.guard_limits_file), counter)


if __name__ == "__main__":
    main()

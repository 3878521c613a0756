"""`python -m rag_llm`: fetch the weights, start the engine, warm it up, then serve."""

import logging
import signal
import sys

import httpx
from pydantic import ValidationError

from rag_assets import AssetError, fetch
from rag_common.http import async_client, serve
from rag_common.log import configure_logging
from rag_llm.app import create_app
from rag_llm.engine import engine
from rag_llm.errors import LLMServerError
from rag_llm.settings import Settings
from rag_llm.warmup import read_messages, warm_up

logger = logging.getLogger(__name__)
GENERATION_TIMEOUT_SECONDS = 600.0
DRAIN_SECONDS = 60  # an answer that has begun is finished


def run(settings: Settings) -> None:
    """Serve until SIGTERM; the socket opens only when the engine is warm."""
    messages = read_messages(settings.llm_warmup_file)
    weights = fetch(settings.llm_model)
    with engine(settings, weights) as url:
        transport = httpx.HTTPTransport(uds=url.removeprefix("unix:"))
        with httpx.Client(base_url="http://engine", transport=transport) as client:
            tokens = warm_up(client, settings.llm_model, messages)
        logger.info("warm", extra={"model": settings.llm_model, "cached_prompt_tokens": tokens})
        app = create_app(async_client(url, timeout=GENERATION_TIMEOUT_SECONDS))
        serve(app, settings.bind, drain_seconds=DRAIN_SECONDS)


def main() -> int:
    """Exit code 0 after SIGTERM, 1 with one line that says what was wrong."""
    configure_logging("rag-llm")
    # uvicorn raises the signal again once it has drained: unwind then, so that the engine stops.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        run(Settings())
    except ValidationError as error:
        fault = error.errors()[0]
        setting = ".".join(str(part) for part in fault["loc"]).upper()
        return _fail(f"{setting}: {fault['msg']}")
    except (AssetError, LLMServerError, OSError, ValueError) as error:
        return _fail(str(error))
    return 0


def _fail(reason: str) -> int:
    print(f"rag-llm: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

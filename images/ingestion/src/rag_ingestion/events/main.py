"""`rag-ingest-events`: documents that come and go, until SIGTERM."""

import logging
import sys

from pydantic import ValidationError

from rag_common.files import SecretFileError
from rag_common.http import serve
from rag_common.log import configure_logging
from rag_ingestion.events.app import create_app
from rag_ingestion.events.brokers import open_broker
from rag_ingestion.events.settings import EventSettings


def main() -> int:
    """Consume; 2 with one line on standard error for a wrong setting."""
    try:
        settings = EventSettings()  # type: ignore[call-arg]  # from the environment
        configure_logging("rag-ingest-events", settings.log_level)
        logging.getLogger("pdfminer").setLevel(logging.ERROR)
        serve(create_app(settings, open_broker(settings)), settings.bind, drain_seconds=150)
    except ValidationError as error:
        wrong = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        print(f"rag-ingest-events: settings: {wrong}", file=sys.stderr)
        return 2
    except (SecretFileError, ValueError, OSError) as error:
        print(f"rag-ingest-events: {error}", file=sys.stderr)
        return 2
    return 0

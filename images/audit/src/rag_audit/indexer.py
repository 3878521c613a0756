"""`rag-audit-indexer`: the audit topic into Elasticsearch, until SIGTERM."""

import sys

from rag_audit.app import Running, create_app
from rag_audit.deadletter import DeadLetterTopic
from rag_audit.elasticsearch import Elasticsearch
from rag_audit.loop import Indexer, open_consumer
from rag_audit.metrics import Metrics
from rag_audit.settings import IndexerSettings, load
from rag_common.files import SecretFileError
from rag_common.http import serve
from rag_common.kafka import connection
from rag_common.log import configure_logging


def main() -> int:
    """Index; 2 with one line on standard error for a wrong setting."""
    settings = load(IndexerSettings, "rag-audit-indexer")
    configure_logging("rag-audit-indexer", settings.log_level)
    metrics = Metrics()
    try:
        kafka = connection(settings.kafka_brokers, settings.kafka_credentials_file)
    except SecretFileError as error:
        print(f"rag-audit-indexer: KAFKA_CREDENTIALS_FILE: {error}", file=sys.stderr)
        return 2
    dead_letters = DeadLetterTopic(kafka, settings.audit_dead_letter_topic)
    consumer = open_consumer(kafka, settings.audit_group)
    with Elasticsearch(settings) as server:
        indexer = Indexer(settings, consumer, server, dead_letters, metrics)
        running = Running(indexer)
        try:
            serve(create_app(running, metrics), settings.bind)
        except (ValueError, OSError) as error:
            print(f"rag-audit-indexer: BIND: {error}", file=sys.stderr)
            return 2
    return int(running.failed)

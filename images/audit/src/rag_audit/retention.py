"""`rag-audit-retention`: deletes whole days that are older than they are kept."""

import logging
import sys
from datetime import datetime, timedelta

from rag_audit.documents import PREFIX, day_of, now
from rag_audit.elasticsearch import Elasticsearch
from rag_audit.errors import AuditError
from rag_audit.settings import RetentionSettings, load
from rag_common.log import configure_logging

log = logging.getLogger(__name__)


def expired(indices: list[str], days: int, at: datetime) -> list[str]:
    """The dated indices whose whole day lies more than `days` days back; others are left alone."""
    limit = at - timedelta(days=days)
    ends = {name: day + timedelta(days=1) for name in indices if (day := day_of(name))}
    return sorted(name for name, end in ends.items() if end <= limit)


def delete(server: Elasticsearch, days: int, at: datetime) -> list[str]:
    """Delete what is expired, one index after the other; raises `AuditError`."""
    found = server.call("GET", f"/{PREFIX}*/_alias?expand_wildcards=open,closed")
    gone = expired(list(found), days, at)
    for name in gone:
        server.call("DELETE", f"/{name}")
        log.info("deleted", extra={"index": name})
    return gone


def main() -> int:
    """Delete what is expired; 1 with the reason on standard error."""
    settings = load(RetentionSettings, "rag-audit-retention")
    configure_logging("rag-audit-retention")
    try:
        with Elasticsearch(settings) as server:
            delete(server, settings.audit_retention_days, now())
    except AuditError as error:
        print(f"rag-audit-retention: {error}", file=sys.stderr)
        return 1
    return 0

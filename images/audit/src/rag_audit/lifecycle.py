"""`rag-audit-lifecycle`: the server's own policy by which whole days go, where it has policies."""

import sys
from typing import Any

from rag_audit.elasticsearch import Elasticsearch
from rag_audit.errors import AuditError
from rag_audit.settings import RetentionSettings, load

NAME = "audit"


def policy(days: int) -> dict[str, Any]:
    """Delete a day's index `days` after the day has ended; its age counts from the day's begin."""
    phase = {"min_age": f"{days + 1}d", "actions": {"delete": {}}}
    return {"policy": {"phases": {"delete": phase}}}


def main() -> int:
    """Put the policy; 1 with the reason on standard error."""
    settings = load(RetentionSettings, "rag-audit-lifecycle")
    try:
        with Elasticsearch(settings) as server:
            server.call("PUT", f"/_ilm/policy/{NAME}", policy(settings.audit_retention_days))
    except AuditError as error:
        print(f"rag-audit-lifecycle: {error}", file=sys.stderr)
        return 1
    return 0

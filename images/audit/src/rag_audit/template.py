"""`rag-audit-template`: how an index of one day is laid out. Without it the server makes no index."""

import sys
from importlib.resources import files
from typing import Any

import orjson

from rag_audit.elasticsearch import Elasticsearch
from rag_audit.errors import AuditError
from rag_audit.lifecycle import NAME as POLICY
from rag_audit.settings import TemplateSettings, load

NAME = "audit"
LOGS = "rag-logs"


def template(shards: int, replicas: int, *, lifecycle: bool = False) -> dict[str, Any]:
    """The index template; the mapping is strict, so that a new field is a decision.

    With `lifecycle` the server's policy deletes an index by the day that its name tells.
    """
    made: dict[str, Any] = orjson.loads(files("rag_audit").joinpath("template.json").read_bytes())
    made["template"]["settings"]["index"] |= {
        "number_of_shards": shards,
        "number_of_replicas": replicas,
    }
    if lifecycle:
        policy = {"name": POLICY, "parse_origination_date": True}
        made["template"]["settings"]["index"]["lifecycle"] = policy
    return made


def logs(replicas: int, days: int) -> dict[str, Any]:
    """The template of the containers' logs: a data stream whose parts the server deletes after `days`."""
    made: dict[str, Any] = orjson.loads(files("rag_audit").joinpath("logs.json").read_bytes())
    made["template"]["settings"]["index"]["number_of_replicas"] = replicas
    made["template"]["lifecycle"] = {"data_retention": f"{days}d"}
    return made


def main() -> int:
    """Put the templates; 1 with the reason on standard error."""
    settings = load(TemplateSettings, "rag-audit-template")
    wanted = template(
        settings.audit_index_shards,
        settings.audit_index_replicas,
        lifecycle=settings.audit_lifecycle,
    )
    try:
        with Elasticsearch(settings) as server:
            server.call("PUT", f"/_index_template/{NAME}", wanted)
            if days := settings.logs_retention_days:
                server.call(
                    "PUT", f"/_index_template/{LOGS}", logs(settings.audit_index_replicas, days)
                )
    except AuditError as error:
        print(f"rag-audit-template: {error}", file=sys.stderr)
        return 1
    return 0

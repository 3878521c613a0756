"""The audit trail: who asked what, what was retrieved, what was answered; durable before it is told."""

from rag_retrieval.audit.reader import read
from rag_retrieval.audit.record import AuditTrail
from rag_retrieval.audit.sink import Sink, open_sink
from rag_retrieval.audit.spool import Spool

__all__ = ["AuditTrail", "Sink", "Spool", "open_sink", "read"]

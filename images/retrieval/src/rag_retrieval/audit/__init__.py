"""The audit trail: who asked what, what was retrieved, what was answered; durable before it is told."""

from rag_retrieval.audit.reader import read
from rag_retrieval.audit.record import AuditTrail
from rag_retrieval.audit.spool import Spool, open_spool

__all__ = ["AuditTrail", "Spool", "open_spool", "read"]

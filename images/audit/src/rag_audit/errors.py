"""What can go wrong on a record's way into the index."""


class AuditError(Exception):
    """Something cannot be done; the message says what, where and why."""


class UnavailableError(AuditError):
    """A server cannot be reached or cannot take it now: the same may succeed later."""


class PoisonError(AuditError):
    """A record that no retry will ever make indexable; the message is the reason."""

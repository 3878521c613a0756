"""What can go wrong on the way from a question to an answer."""


class RetrievalError(Exception):
    """The request could not be served; the message says what and why."""


class UpstreamError(RetrievalError):
    """A service that the request needs failed; `service` names it (embedder, store, guard, llm …)."""

    def __init__(self, service: str, detail: str) -> None:
        super().__init__(f"{service}: {detail}")
        self.service, self.detail = service, detail


class UpstreamUnavailableError(UpstreamError):
    """It cannot be reached, is overloaded or still starts: the same request may succeed later."""


class UpstreamRejectedError(UpstreamError):
    """It answered, but refused the request or sent something that is not an answer."""

    def __init__(self, service: str, detail: str, *, status: int | None = None) -> None:
        super().__init__(service, detail)
        self.status = status


class ModelMismatchError(UpstreamUnavailableError):
    """The embedder serves another model than the one the tenant's index was built with."""


class DeadlineExceededError(RetrievalError):
    """The request's time budget ran out; `stage` says during what, `seconds` how much it was."""

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(f"{stage}: the request's budget of {seconds:g} s ran out")
        self.stage, self.seconds = stage, seconds


class QueueFullError(RetrievalError):
    """As many requests as allowed already wait for the model."""


class AuditError(RetrievalError):
    """An audit record could not be made durable, so nothing may be answered."""


class SettingsError(RetrievalError):
    """A setting is missing or malformed; the message names it."""

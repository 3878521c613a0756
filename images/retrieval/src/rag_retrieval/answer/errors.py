"""What can go wrong between the answer and the LLM."""


class AnswerError(Exception):
    """An answer could not be made; the message says why."""


class LLMError(AnswerError):
    """The LLM server refused the request or broke off: neither a retry nor a wait will help."""


class LLMUnavailableError(LLMError):
    """The LLM server cannot be reached, is loading or is overloaded; try again later."""


class LLMTimeoutError(LLMUnavailableError):
    """The LLM server did not finish before the deadline."""

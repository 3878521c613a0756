"""Why the LLM server cannot serve."""


class LLMServerError(Exception):
    """The server cannot start; the message says what to do."""


class EngineError(LLMServerError):
    """The engine refused the weights or its parameters."""


class WarmUpError(LLMServerError):
    """The warm-up prompt is malformed or the engine did not answer it."""

"""What stops the suite itself (exit code 2); a gate's own trouble is `gate.ProbeError`."""


class SuiteError(Exception):
    """The suite cannot run; the message says what is wrong, where, and what to do."""


class SloError(SuiteError):
    """An SLO file is missing, malformed or weaker than it may be; has file, path and line."""


class DiscoveryError(SuiteError):
    """The gates on disk contradict each other or the catalogue's layout."""


class TargetError(SuiteError):
    """The target's description is malformed, or what it describes cannot be reached."""


class CorpusError(SuiteError):
    """A labelled corpus is malformed; has file and line."""


class GitError(SuiteError):
    """Git cannot tell what is asked of a checkout, or the folder is none."""


class GateTimeoutError(BaseException):
    """A gate exceeded its time; not an `Exception`, so that a gate's own handlers let it pass."""

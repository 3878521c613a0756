"""Measuring one gate: within its time, with every trouble of the probe told apart from a verdict."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from conformance.context import RunContext
from conformance.errors import GateTimeoutError
from conformance.gate import Gate, Observation, ProbeError, Status
from conformance.parallel import raise_in
from conformance.slo import GateSlo, Profile
from conformance.verdict import Check, Result, check, reason_of, status_of


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `GateTimeoutError` in this thread when the block takes longer than `seconds`."""
    main = threading.current_thread() is threading.main_thread()
    try:
        with (_alarm if main else _timer)(seconds):
            yield
    except GateTimeoutError:
        raise GateTimeoutError(f"no result after {seconds:g} s") from None


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def expire(_: int, __: FrameType | None) -> None:
        raise GateTimeoutError

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def _timer(seconds: float) -> Iterator[None]:
    thread, lock, over = threading.get_ident(), threading.Lock(), False

    def expire() -> None:
        with lock:
            if not over:
                raise_in(thread, GateTimeoutError)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
        timer.cancel()


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Ctrl-C and SIGTERM inside the block take effect after it, so that it cleans up whole."""
    pending: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    previous = {k: signal.signal(k, lambda number, _: pending.append(number)) for k in kinds}
    try:
        yield
    finally:
        for kind, handler in previous.items():
            signal.signal(kind, handler)
    if pending:
        raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class Judge:
    """How one gate is judged: its SLO, the profile and the time it may take in seconds."""

    slo: GateSlo
    profile: Profile
    timeout_seconds: float

    def __call__(self, gate: Gate, context: RunContext) -> Result:
        """Measure and judge `gate`; never raises but for an interrupt."""
        started = time.monotonic()
        result = Result(gate.id, gate.phase, Status.ERROR, gate.title, gate.promise)
        result.required = self.slo.required
        try:
            with time_limit(self.timeout_seconds):
                observation = gate.measure(context)
            self._judge(result, observation)
        except GateTimeoutError as error:
            result.reason = f"timeout: {error}"
        except ProbeError as error:
            result.reason = str(error) or "ProbeError without a message"
        except (Exception, SystemExit) as error:
            result.reason = f"the probe broke: {type(error).__name__}: {error}"
        result.seconds = time.monotonic() - started
        self._keep(result, context)
        return result

    def _judge(self, result: Result, observation: Observation) -> None:
        if not isinstance(observation, Observation):
            raise ProbeError(f"measure returned {type(observation).__name__}, not an Observation")
        checks: list[Check] = check(observation, self.slo, self.profile)
        result.status, result.reason = status_of(checks), reason_of(checks)
        result.checks, result.notes = checks, list(observation.notes)
        result.plots = list(observation.plots)
        result.tables = list(observation.tables)

    def _keep(self, result: Result, context: RunContext) -> None:
        context.evidence.write("result.json", result.record())
        result.evidence = context.evidence.files()

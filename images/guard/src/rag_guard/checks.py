"""Checks with their metrics, as the HTTP service answers them."""

import logging
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

from rag_common.problem import Problem
from rag_guard.classifier import KINDS, CheckError, Classifier, Kind, TooLongError, Verdict

_log = logging.getLogger(__name__)
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Checker:
    """A classifier whose every check is counted and timed."""

    def __init__(self, classifier: Classifier, registry: CollectorRegistry) -> None:
        self.classifier = classifier
        self.checks = Counter(
            "guard_checks", "Texts checked.", ["kind", "flagged"], registry=registry
        )
        self.duration = Histogram(
            "guard_check_duration_seconds",
            "Time to check the texts of one request.",
            buckets=_BUCKETS,
            registry=registry,
        )
        for kind in KINDS:
            for flagged in ("true", "false"):
                self.checks.labels(kind, flagged)

    async def check(self, texts: Sequence[str], kind: Kind) -> list[Verdict]:
        """A verdict for each text; raises `Problem` 413, or 503 when they cannot be judged."""
        try:
            with self.duration.time():
                verdicts = await self.classifier.check(texts, kind)
        except TooLongError as error:
            raise Problem(413, "Content too large", str(error)) from error
        except CheckError as error:
            _log.error("texts could not be checked: %s", error)
            detail = "the text could not be checked, so it was refused; try again"
            raise Problem(503, "Service unavailable", detail) from error
        for verdict in verdicts:
            self.checks.labels(kind, str(verdict.flagged).lower()).inc()
        return verdicts

    async def worst(self, texts: Sequence[str], kind: Kind) -> tuple[Verdict, str]:
        """The flagged verdict with its text, or the highest score among clean ones."""
        said = [text for text in texts if text.strip()]
        judged = zip(await self.check(said, kind), said, strict=True)
        nothing = (Verdict(False, None, 0.0), "")
        return max(judged, key=lambda pair: (pair[0].flagged, pair[0].score), default=nothing)


def refusal(verdict: Verdict) -> Problem:
    """What a flagged request is answered."""
    return Problem(
        403,
        "Flagged as prompt injection",
        "the request looks like an attempt to change the assistant's instructions; it was logged",
        rule=verdict.rule,
        score=round(verdict.score, 4),
    )

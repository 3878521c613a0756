"""Checks with their metrics."""

from prometheus_client import CollectorRegistry, Counter, Histogram
from rag_common.problem import Problem

from rag_guard.classifier import Classifier, Kind, Verdict

KINDS: tuple[Kind, ...] = ("request", "retrieved")
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


class Checker:
    """A classifier whose every check is counted and timed."""

    def __init__(self, classifier: Classifier, registry: CollectorRegistry) -> None:
        self.classifier = classifier
        self.checks = Counter(
            "guard_checks", "Texts checked.", ["kind", "flagged"], registry=registry
        )
        self.duration = Histogram(
            "guard_check_duration_seconds",
            "Time to check one text.",
            buckets=_BUCKETS,
            registry=registry,
        )
        for kind in KINDS:
            for flagged in ("true", "false"):
                self.checks.labels(kind, flagged)

    def check(self, text: str, kind: Kind) -> Verdict:
        """The verdict on `text`."""
        with self.duration.time():
            verdict = self.classifier.check(text, kind)
        self.checks.labels(kind, str(verdict.flagged).lower()).inc()
        return verdict

    def worst(self, texts: list[str], kind: Kind) -> tuple[Verdict, str]:
        """The flagged verdict with its text, or the highest score among clean ones."""
        judged = [(self.check(text, kind), text) for text in texts if text.strip()]
        if not judged:
            return Verdict(False, None, 0.0), ""
        return max(judged, key=lambda pair: (pair[0].flagged, pair[0].score))


def refusal(verdict: Verdict) -> Problem:
    """What a flagged request is answered."""
    return Problem(
        403,
        "Flagged as prompt injection",
        "the request looks like an attempt to change the assistant's instructions; it was logged",
        rule=verdict.rule,
        score=round(verdict.score, 4),
    )

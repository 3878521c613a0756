"""The verdict on texts: known patterns first, then the classifier over sentence embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from starlette.concurrency import run_in_threadpool

from rag_guard.embedding import Embedder, EmbeddingError
from rag_guard.model import Model, ModelError
from rag_guard.normalise import plain
from rag_guard.patterns import first_match
from rag_guard.windows import windows

Kind = Literal["request", "retrieved"]
KINDS: tuple[Kind, ...] = ("request", "retrieved")
READY_SECONDS = 1.0
SECONDS: dict[Kind, float] = {"request": 1.0, "retrieved": 5.0}
MOST_WINDOWS: dict[Kind, int] = {"request": 128, "retrieved": 1024}


class CheckError(Exception):
    """The texts could not be judged: whoever asks must refuse them."""


class TooLongError(CheckError):
    """More text than one check takes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a text is flagged, by which rule (`classifier` for the score), and the score."""

    flagged: bool
    rule: str | None
    score: float

    def as_dict(self) -> dict[str, object]:
        """The verdict as the API and the tenant token carry it."""
        return {"flagged": self.flagged, "rule": self.rule, "score": round(self.score, 4)}


class Classifier:
    """Judges texts; `threshold` replaces the one that training chose for requests."""

    def __init__(self, model: Model, embedder: Embedder, threshold: float | None = None) -> None:
        self.model, self.embedder = model, embedder
        self.thresholds: dict[Kind, float] = {
            "request": model.request_threshold if threshold is None else threshold,
            "retrieved": model.retrieved_threshold,
        }

    async def check(self, texts: Sequence[str], kind: Kind = "request") -> list[Verdict]:
        """A verdict for each text, from one call of the embedder; raises `CheckError`."""
        rules = await run_in_threadpool(_rules, texts, kind)
        cut = [
            [] if rule else windows(plain(text)) for rule, text in zip(rules, texts, strict=True)
        ]
        scores = await self._scores(cut, kind)
        return [self._verdict(*pair, kind) for pair in zip(rules, scores, strict=True)]

    async def not_ready(self) -> str | None:
        """Why texts cannot be judged now, or None."""
        try:
            self._same_model(await self.embedder.digest(READY_SECONDS))
        except (EmbeddingError, CheckError) as error:
            return f"embedding service: {error}"
        return None

    def _verdict(self, rule: str | None, score: float, kind: Kind) -> Verdict:
        if rule:
            return Verdict(True, rule, 1.0)
        flagged = score >= self.thresholds[kind]
        return Verdict(flagged, "classifier" if flagged else None, score)

    async def _scores(self, cut: list[list[str]], kind: Kind) -> list[float]:
        """The highest score among each text's windows."""
        if not (flat := [window for group in cut for window in group]):
            return [0.0] * len(cut)
        if len(flat) > MOST_WINDOWS[kind]:
            raise TooLongError(f"{len(flat)} windows of text, at most {MOST_WINDOWS[kind]}")
        try:
            vectors, digest = await self.embedder.embed(flat, SECONDS[kind])
            self._same_model(digest)
            scores = self.model.network.scores(vectors)
        except (EmbeddingError, ModelError) as error:
            raise CheckError(f"embedding service: {error}") from error
        ends = np.cumsum([len(group) for group in cut])
        parts = np.split(scores, ends[:-1])
        return [float(part.max(initial=0.0)) for part in parts]

    def _same_model(self, digest: str) -> None:
        if digest != self.model.embedding_digest:
            raise CheckError(
                f"it serves model {digest[:12]}, the coefficients are for "
                f"{self.model.embedding_digest[:12]}: run `python -m rag_guard.training`"
            )


def _rules(texts: Sequence[str], kind: Kind) -> list[str | None]:
    return [first_match(text, retrieved=kind == "retrieved") for text in texts]

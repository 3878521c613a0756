"""Answers a question from a retrieval, sentence by verified sentence."""

import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from rag_retrieval.answer.context import Source, assemble
from rag_retrieval.answer.drafts import Draft, DraftReader
from rag_retrieval.answer.errors import LLMTimeoutError
from rag_retrieval.answer.llm import Completion, LLMClient
from rag_retrieval.answer.prompt import PROMPT_VERSION, Message, clean, messages, schema
from rag_retrieval.answer.verify import verify
from rag_retrieval.evidence import Embed, ReadPassage, answerability, answerable_from, read
from rag_retrieval.types import Outcome, Retrieval, Sentence


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before generation; `decline_reason` says that the model will not be asked."""

    question: str
    answerability: float
    decline_reason: str | None
    sources: Sequence[Source]
    passages: Sequence[ReadPassage]
    prompt: Sequence[Message]
    model: str
    prompt_version: str
    milliseconds: float


@dataclass(slots=True)
class _Run:
    """The state of one answer."""

    started: float
    reader: DraftReader = field(default_factory=DraftReader)
    completion: Completion = field(default_factory=Completion)
    sentences: list[Sentence] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)
    timed_out: bool = False
    verify_seconds: float = 0.0

    def has(self, text: str) -> bool:
        """Whether the answer says `text` already."""
        return any(text == sentence.text for sentence in self.sentences)


class Answerer:
    """Decides whether the evidence answers, asks the model, verifies what it says."""

    def __init__(
        self,
        llm: LLMClient,
        embed: Embed,
        *,
        context_tokens: int = 400,
        answerable_from: float | None = None,
    ) -> None:
        self._llm, self._embed = llm, embed
        self.context_tokens = context_tokens
        self._threshold = answerable_from

    async def prepare(self, question: str, retrieval: Retrieval) -> Prepared:
        """Read the passages, judge them and write the prompt; asks the embedder, not the LLM."""
        started = time.monotonic()
        passages = await read(retrieval.passages, self._embed)
        chance = answerability(question, retrieval, passages)
        sources = assemble(question, retrieval, passages, self.context_tokens)
        reason = self._reason(chance, retrieval) if sources else "no_sources"
        return Prepared(
            question=question,
            answerability=chance,
            decline_reason=reason,
            sources=sources,
            passages=passages,
            prompt=[] if reason else messages(question, sources),
            model=self._llm.settings.model,
            prompt_version=PROMPT_VERSION,
            milliseconds=1000 * (time.monotonic() - started),
        )

    def _reason(self, chance: float, retrieval: Retrieval) -> str | None:
        own = self._threshold
        threshold = answerable_from(retrieval) if own is None else own
        return "not_answerable" if chance < threshold else None

    async def answer(
        self,
        question: str,
        retrieval: Retrieval,
        *,
        deadline_seconds: float = 60.0,
        prepared: Prepared | None = None,
    ) -> AsyncGenerator[Sentence | Outcome, None]:
        """Verified sentences as they come, then exactly one `Outcome`.

        Raises `LLMError` (or its children) when the model cannot be asked or breaks off. At the
        deadline, what was verified until then is the answer.
        """
        run = _Run(time.monotonic())
        prepared = prepared or await self.prepare(question, retrieval)
        if prepared.decline_reason is None:
            deadline = run.started + deadline_seconds
            # Closed at once when the caller leaves, so that the model stops generating.
            async with aclosing(self._generate(prepared, run, deadline)) as sentences:
                async for sentence in sentences:
                    yield sentence
        yield _outcome(prepared, run)

    async def _generate(
        self, prepared: Prepared, run: _Run, deadline: float
    ) -> AsyncGenerator[Sentence, None]:
        labels = [source.label for source in prepared.sources]
        prompt = [dict(message) for message in prepared.prompt]
        stream = self._llm.stream(prompt, schema(labels), deadline, run.completion)
        try:
            async with aclosing(stream) as pieces:
                async for piece in pieces:
                    for draft in run.reader.feed(piece):
                        if sentence := await self._verified(draft, prepared, run):
                            yield sentence
        except LLMTimeoutError:
            if not run.reader.text:
                raise
            run.timed_out = True
        for draft in run.reader.finish():
            if sentence := await self._verified(draft, prepared, run):
                yield sentence

    async def _verified(self, draft: Draft, prepared: Prepared, run: _Run) -> Sentence | None:
        if not draft.text or run.has(draft.text):
            return None
        started = time.monotonic()
        sentence, objection = await self._check(draft, prepared)
        run.verify_seconds += time.monotonic() - started
        if objection:
            run.dropped.append(draft.text)
            run.objections.append(objection)
        if sentence is None or run.has(sentence.text):
            return None
        run.sentences.append(sentence)
        return sentence

    async def _check(self, draft: Draft, prepared: Prepared) -> tuple[Sentence | None, str]:
        """The sentence that may be said, and what spoke against the model's own words."""
        vector = (await self._embed([draft.text]))[0]
        verdicts = {s.label: verify(draft.text, vector, s.passage) for s in prepared.sources}
        chunks = {s.label: s.passage.chunk_id for s in prepared.sources}
        cited = [label for label in draft.labels if label in verdicts]

        def best(labels: Iterable[str]) -> str:
            return max(labels, key=lambda label: verdicts[label].support)

        supporting = [label for label, verdict in verdicts.items() if verdict.supported]
        if supporting:
            chosen = [label for label in cited if label in supporting] or [best(supporting)]
            support = max(verdicts[label].support for label in chosen)
            return Sentence(draft.text, tuple(chunks[label] for label in chosen), support), ""
        objection = verdicts[best(cited or verdicts)].objection or ""
        quotes = {label: verdict.quote for label, verdict in verdicts.items() if verdict.quote}
        if not quotes:
            return None, objection
        label = best([label for label in cited if label in quotes] or quotes)
        support = verdicts[label].support
        return Sentence(clean(quotes[label]), (chunks[label],), support, quoted=True), objection


def _outcome(prepared: Prepared, run: _Run) -> Outcome:
    reason = prepared.decline_reason or _decline_reason(run)
    first = run.completion.first_token_seconds
    timings = {
        "prepare": prepared.milliseconds,
        "first_token": 1000 * first if first is not None else 0.0,
        "verify": 1000 * run.verify_seconds,
        "total": 1000 * (time.monotonic() - run.started),
    }
    return Outcome(
        status="declined" if reason else "answered",
        decline_reason=reason,
        sentences=tuple(run.sentences),
        dropped=tuple(run.dropped),
        answerability=prepared.answerability,
        prompt=prepared.prompt,
        response=run.reader.text,
        model=run.completion.model or prepared.model,
        prompt_version=prepared.prompt_version,
        usage=run.completion.usage,
        timings_ms=timings,
        detail={
            "objections": tuple(run.objections),
            "finish_reason": run.completion.finish_reason,
            "timed_out": run.timed_out,
        },
    )


def _decline_reason(run: _Run) -> str | None:
    if run.sentences:
        return None
    if run.timed_out:
        return "deadline"
    if run.dropped:
        return "unsupported"
    return "model_declined" if run.reader.well_formed else "malformed_output"

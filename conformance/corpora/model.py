"""What a labelled corpus is, and how a sample is drawn from it."""

import hashlib
import json
import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TypeVar

SUFFIX = ".md"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LabelledDocument:
    """A source document; `doc_id` is its name in the index."""

    id: str
    title: str
    text: str

    @property
    def doc_id(self) -> str:
        """The path relative to the source folder, which is the index's id."""
        return f"{self.id}{SUFFIX}"

    @property
    def markdown(self) -> str:
        """The document as it is ingested."""
        heading = f"# {self.title}\n\n" if self.title else ""
        return f"{heading}{self.text}\n"


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A question with what is known about its answer."""

    id: str
    text: str
    answerable: bool
    relevant: tuple[str, ...] = ()
    category: str = ""
    answer: str = ""
    facts: tuple[tuple[str, ...], ...] = ()
    forbidden_claims: tuple[str, ...] = ()
    # by a relevant document, those that say the same
    equivalent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def newly_found(self, doc_ids: Iterable[str]) -> list[bool]:
        """For each of the index's ids in order, whether it brings a relevant document not yet found.

        A document that says the same as a relevant one stands for it, once. This is the one rule
        by which every gate calls a result right.
        """
        left, found = dict.fromkeys(self.relevant), []
        for doc_id in doc_ids:
            name = doc_id.removesuffix(SUFFIX)
            same = (r for r in left if name == r or name in self.equivalent.get(r, ()))
            hit = name if name in left else next(same, None)
            left.pop(hit or "", None)
            found.append(hit is not None)
        return found

    @property
    def relevant_doc_ids(self) -> frozenset[str]:
        """The relevant documents by the index's ids."""
        return frozenset(f"{name}{SUFFIX}" for name in self.relevant)


@dataclass(frozen=True)
class LabelledCorpus:
    """Documents and the questions that the gates may ask about them."""

    name: str
    documents: Sequence[LabelledDocument]
    queries: Sequence[LabelledQuery]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over documents and queries."""
        rows = [[asdict(d) for d in self.documents], [asdict(q) for q in self.queries]]
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    @property
    def answerable(self) -> list[LabelledQuery]:
        """Questions that a document answers."""
        return [q for q in self.queries if q.answerable]

    @property
    def unanswerable(self) -> list[LabelledQuery]:
        """Questions that no document answers."""
        return [q for q in self.queries if not q.answerable]

    @property
    def gold(self) -> list[LabelledQuery]:
        """Answerable questions with a gold answer's facts."""
        return [q for q in self.answerable if q.facts]

    def only(self, documents: Collection[str]) -> "LabelledCorpus":
        """The part with these documents and the questions that they answer fully."""
        kept = [d for d in self.documents if d.id in documents]
        asked = [q for q in self.answerable if set(q.relevant) <= set(documents)]
        return LabelledCorpus(f"{self.name}-part", kept, asked)


def sample(population: Iterable[T], size: int, seed: int, what: str) -> list[T]:
    """At most `size` members at random, the same for the same `seed` and `what`."""
    members = list(population)
    return random.Random(f"{seed}:{what}").sample(members, min(size, len(members)))  # noqa: S311

"""A text parsed once for alignment: stems, numbers with units, names, negation scopes."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from conformance.judge import lexicon
from conformance.judge.text import is_content, sentences, stem, words

PREFIX = 5
_NEGATION_SCOPE = 4
_UNIT_REACH = 3
_NAME = re.compile(r"(?<![\w])[A-Z][\w’'&.-]*[\w]|\b[A-Z]\b")
_CLAUSE = re.compile(r"[,;:.!?()\n]+")


_REPORTING = re.compile(
    r"^(?:(?:according to|based on|as stated in|as per) (?:the|this) \w+,\s*|"
    r"(?:the|this|it) (?:\w+ )?(?:states?|says?|explains?|notes?|mentions?|is reported|reports?|"
    r"answer is) that\s+|as the \w+ (?:explains|states|says|notes),\s*|in short,\s*|yes,\s*)",
    re.IGNORECASE,
)


def without_reporting(text: str) -> str:
    """The claim itself: `According to the source, X` is X."""
    return _REPORTING.sub("", text)


@dataclass(frozen=True)
class Passage:
    """A text with everything alignment needs, computed lazily and once."""

    text: str

    @cached_property
    def words(self) -> list[str]:
        """Normalised words in order."""
        return words(self.text)

    @cached_property
    def stems(self) -> list[str]:
        """Their stems."""
        return [stem(word) for word in self.words]

    @cached_property
    def content(self) -> list[int]:
        """Positions of content words."""
        return [i for i, word in enumerate(self.words) if is_content(word)]

    @cached_property
    def places(self) -> Mapping[str, Sequence[int]]:
        """Where each stem occurs."""
        found: dict[str, list[int]] = defaultdict(list)
        for i, name in enumerate(self.stems):
            found[name].append(i)
        return dict(found)

    @cached_property
    def prefixes(self) -> Mapping[str, Sequence[int]]:
        """Lengths of the stems by their first letters."""
        found: dict[str, list[int]] = defaultdict(list)
        for name in self.places:
            found[name[:PREFIX]].append(len(name))
        return dict(found)

    @cached_property
    def numbers(self) -> list[int]:
        """Positions of numbers."""
        return [i for i, word in enumerate(self.words) if word[0].isdigit()]

    def unit(self, position: int) -> str | None:
        """The unit that follows the number at `position`, over a range such as `66-69 %`."""
        for word in self.words[position + 1 : position + 1 + _UNIT_REACH]:
            if word in lexicon.UNIT_OF:
                return lexicon.UNIT_OF[word]
        return None

    @cached_property
    def names(self) -> list[str]:
        """Stems of capitalised words, a sentence's first word only when it looks like a name."""
        found: list[str] = []
        for sentence in sentences(self.text):
            for match in _NAME.finditer(sentence):
                word = match.group()
                if re.search(r"\d\s?$", sentence[: match.start()]):
                    continue  # a unit or a magnitude, as in 3 M
                inner = any(c.isupper() or c.isdigit() for c in word[1:])
                if match.start() > 1 or inner or _NAME.match(sentence, match.end() + 1):
                    found += [stem(part) for part in words(word) if is_content(part)]
        return found

    @cached_property
    def initials(self) -> frozenset[str]:
        """Initials of runs of capitalised words, so that `WHO` matches its long form."""
        runs = re.findall(
            r"(?:[A-Z][\w-]+(?:\s+(?:of|and|the|for)\s+|\s+)){1,7}[A-Z][\w-]+", self.text
        )
        short = (
            "".join(w[0] for w in run.split() if w[0].isupper() and is_content(w.lower()))
            for run in runs
        )
        return frozenset(letters.lower() for letters in short if len(letters) > 1)

    @cached_property
    def negated(self) -> frozenset[str]:
        """Stems of content words within reach of a negator in the same clause."""
        found: set[str] = set()
        for clause in _CLAUSE.split(self.text):
            tokens = words(clause)
            for i, token in enumerate(tokens):
                if token in lexicon.NEGATORS:
                    scope = [t for t in tokens[i + 1 :] if is_content(t)][:_NEGATION_SCOPE]
                    found |= {stem(t) for t in scope}
        return frozenset(found)

    @cached_property
    def asserted(self) -> frozenset[str]:
        """Stems that occur at least once outside a negator's reach."""
        found: set[str] = set()
        for clause in _CLAUSE.split(self.text):
            tokens = words(clause)
            covered: set[int] = set()
            for i, token in enumerate(tokens):
                if token in lexicon.NEGATORS:
                    scope = [j for j in range(i + 1, len(tokens)) if is_content(tokens[j])]
                    covered |= set(scope[:_NEGATION_SCOPE])
            found |= {stem(t) for j, t in enumerate(tokens) if j not in covered}
        return frozenset(found)

    @cached_property
    def negators(self) -> int:
        """How many negators there are."""
        return sum(word in lexicon.NEGATORS for word in self.words)

    @cached_property
    def sentences(self) -> list["Passage"]:
        """The text's sentences, parsed."""
        return [Passage(sentence) for sentence in sentences(self.text)]


@lru_cache(maxsize=4096)
def parse(text: str) -> Passage:
    """The parsed text, kept for the next pair with the same chunk."""
    return Passage(text)

"""Rule-based rewordings that keep a sentence's meaning: what a supported claim may look like."""

import random
import re
from collections.abc import Callable

from conformance.judge import lexicon
from conformance.judge.text import word_list

Edit = Callable[[str, random.Random], str | None]

_SYNONYMS = """
increase|rise; increased|rose; decreased|fell; reduced|cut; reduces|cuts; shows|indicates;
showed|indicated; found|reported; reported|stated; uses|employs; used|employed; requires|needs;
require|need; provides|offers; provide|offer; includes|comprises; includes|covers; begin|start;
began|started; large|big; significant|considerable; significantly|considerably; primarily|mainly;
primary|main; however|but; additionally|also; approximately|about; approximately|roughly;
individuals|people; company|firm; employees|staff; children|kids; physicians|doctors;
demonstrated|showed; obtain|get; assist|help; purchase|buy; numerous|many; several|a number of;
established|set up; determined|decided; conducted|carried out; published|released;
ensures|makes sure; allows|lets; enables|lets; prevents|stops; improves|enhances;
improved|enhanced; method|approach; result|outcome; results|outcomes; important|key;
maximum|upper limit; minimum|least; annual|yearly; annually|every year; per year|a year;
per day|a day; per month|a month; per hour|an hour; due to|because of; in order to|to;
as well as|and; such as|like; compared to|versus; more than|over; less than|under;
located|situated; created|made; developed|built; goal|aim; issue|problem; entire|whole;
recommends|advises; recommended|advised; announced|said; launched|introduced; ended|finished;
remain|stay; remains|stays; identified|named; measures|gauges; affects|influences; via|through
"""
_ABBREVIATIONS = """
percent|%; %| percent; United States|US; U.S.|US; United Kingdom|UK; million|M; billion|B;
kilometers|km; kilograms|kg; milligrams|mg; meters|m; hours|hrs; minutes|min; degrees Celsius|°C;
does not|doesn't; do not|don't; is not|isn't; are not|aren't; cannot|can't; was not|wasn't;
World Health Organization|WHO; Food and Drug Administration|FDA; European Union|EU;
artificial intelligence|AI; greater than|>; two|2; three|3; four|4; five|5; six|6; ten|10
"""
_PREFIXES = (
    "According to the source, ", "The document states that ", "Yes, ", "In short, ",
    "As the text explains, ", "The answer is that ", "It is reported that ", "Based on the source, ",
)  # fmt: skip


def _table(text: str) -> list[tuple[re.Pattern[str], str]]:
    rows = [row.strip("\n").split("|") for row in text.replace("\n", " ").split(";")]
    result = []
    for left, right in rows:
        left = left.strip()
        start, end = (r"\b" if left[0].isalnum() else ""), (r"\b" if left[-1].isalnum() else "")
        result.append((re.compile(start + re.escape(left) + end), right.rstrip()))
    return result


_SYNONYM_TABLE, _ABBREVIATION_TABLE = _table(_SYNONYMS), _table(_ABBREVIATIONS)


def _replace(table: list[tuple[re.Pattern[str], str]], most: int) -> Edit:
    def edit(text: str, rng: random.Random) -> str | None:
        usable = [(p, r) for p, r in table if p.search(text)]
        if not usable:
            return None
        for pattern, replacement in rng.sample(usable, min(most, len(usable))):
            value = replacement.lstrip() if pattern.pattern[:2] == r"\b" else replacement
            text = pattern.sub(value, text, count=1)
        return text

    return edit


def _drop_parenthesis(text: str, _: random.Random) -> str | None:
    shorter = re.sub(r"\s*\([^()]*\)", "", text)
    return shorter if shorter != text else None


def _drop_tail(text: str, _: random.Random) -> str | None:
    """Cut a non-restrictive clause at the end."""
    match = re.search(
        r",\s+(?:which|who|where|including|with|driven|compared|up from|down from|as well as|making|"
        r"while|although|especially|particularly|primarily|according)\b[^.]*\.?$",
        text,
    )
    return text[: match.start()] + "." if match and match.start() > 35 else None


def _drop_lead(text: str, _: random.Random) -> str | None:
    match = re.match(r"[^,]{4,45},\s+(?=[a-z])", text)
    if not match or re.match(r"(?:If|When|Unless|While|Although|Without|For)\b", text):
        return None
    rest = text[match.end() :]
    return rest[0].upper() + rest[1:] if len(rest) > 40 else None


def _move_lead(text: str, _: random.Random) -> str | None:
    """`In 2020, sales rose.` becomes `Sales rose in 2020.`"""
    match = re.match(
        r"((?:In|By|Since|During|As of|According to|Under|After|Before|At)\b[^,]{2,45}),\s+", text
    )
    if not match:
        return None
    rest, lead = text[match.end() :].rstrip("."), match.group(1)
    return f"{rest[0].upper()}{rest[1:]} {lead[0].lower()}{lead[1:]}."


def _articles(text: str, rng: random.Random) -> str | None:
    word = rng.choice(["the", "a", "an"])
    shorter = re.sub(rf"(?<=[a-z]) {word} ", " ", text, count=rng.randint(1, 2))
    return shorter if shorter != text else None


def _plain_numbers(text: str, _: random.Random) -> str | None:
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    return plain if plain != text else None


def _prefix(text: str, rng: random.Random) -> str | None:
    return rng.choice(_PREFIXES) + text[0].lower() + text[1:] if text[1:2].islower() else None


def _split_and(text: str, rng: random.Random) -> str | None:
    """Keep one of two full clauses joined by `and` or a semicolon."""
    parts = re.split(r"(?:;|,\s+and|,\s+but)\s+", text)
    if len(parts) != 2 or min(len(p) for p in parts) < 40:
        return None
    kept = rng.choice(parts).rstrip(".")
    return kept[0].upper() + kept[1:] + "."


def _split_list(text: str, rng: random.Random) -> str | None:
    """Leave out one member of a comma-separated list of three or more."""
    items = list(re.finditer(r",\s+[\w\s%$./-]{3,30}(?=,\s)", text))
    if len(items) < 2:
        return None
    gone = rng.choice(items)
    return text[: gone.start()] + text[gone.end() :]


_FILLERS = word_list(
    """has made gets takes gives shows means says tells comes goes works helps needs wants keeps puts
    called known seen given taken people things ways part kind time place case point number use
    group level side area new main good real full common able clear own certain various overall
    used put done set told held brought among during within per through amounts reached stood
    lasts costs counts weighs offers contains consists describes mentions experienced rate total"""
)
_KEPT = (
    lexicon.NEGATORS
    | lexicon.OPPOSITES.keys()
    | lexicon.ABSOLUTES
    | lexicon.HEDGES
    | lexicon.CAUSES
    | lexicon.UNITS
)
_TURNS = re.compile(r" (?=(?:in|for|of|by|with|at|from|to|when|after|on|during|as)\b)")


def _reword(text: str, rng: random.Random) -> str | None:
    """Plain words dropped or said otherwise; names, numbers, units and polarity stay."""
    drop, replace = rng.choice([(0.15, 0.1), (0.3, 0.15), (0.25, 0.35)])
    result: list[str] = []
    for token in text.split(" "):
        plain = token.isalpha() and token.islower() and token not in _KEPT
        after_negator = bool(result) and result[-1] in lexicon.NEGATORS
        chance = rng.random()
        if not plain or after_negator or chance >= drop + replace:
            result.append(token)
        elif chance < replace:
            result.append(rng.choice(_FILLERS))
    return " ".join(result) if len(result) > 4 else None


def _turn(text: str, rng: random.Random) -> str | None:
    """Two phrases change places: `A rose in B` becomes `In B A rose`."""
    parts = _TURNS.split(text.rstrip("."))
    if len(parts) < 3:
        return None
    cut = rng.randrange(1, len(parts))
    return " ".join([*parts[cut:], *parts[:cut]]) + "."


EDITS: tuple[Edit, ...] = (
    _replace(_SYNONYM_TABLE, 3),
    _replace(_SYNONYM_TABLE, 3),
    _replace(_ABBREVIATION_TABLE, 2),
    _drop_parenthesis,
    _drop_tail,
    _drop_lead,
    _move_lead,
    _articles,
    _plain_numbers,
    _prefix,
    _split_and,
    _split_list,
    _reword,
    _reword,
    _reword,
    _turn,
)


def paraphrase(text: str, rng: random.Random, edits: int = 3) -> str:
    """The sentence after up to `edits` rewordings that apply; itself when none does."""
    for edit in rng.sample(EDITS, len(EDITS)):
        changed = edit(text, rng)
        if changed and changed != text:
            text, edits = changed, edits - 1
        if not edits:
            break
    return text


def merge(first: str, second: str, rng: random.Random) -> str:
    """Two sentences as one."""
    joint = rng.choice([", and ", "; ", ", while "])
    second = second[0].lower() + second[1:] if second[1:2].islower() else second
    return first.rstrip(".") + joint + second

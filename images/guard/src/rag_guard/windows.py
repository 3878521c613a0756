"""Texts cut into windows that the embedder reads whole: an attack must not hide in benign bulk."""

import re

CHARACTERS = 300  # the densest text has a token a character, and the embedder reads 256 tokens
OVERLAP = 60
LEAST = 12  # shorter parts say nothing: the rules alone judge them
_BREAK = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(text: str) -> list[str]:
    """The sentences and lines of `text`, without the empty ones."""
    return [part.strip() for part in _BREAK.split(text) if part.strip()]


def windows(text: str) -> list[str]:
    """Each sentence, and groups of them of at most `CHARACTERS`: a sentence next to an attack hides it,
    and an attack may take several. A longer sentence comes in overlapping pieces.
    """
    pieces = [piece for sentence in sentences(text) for piece in _pieces(sentence)]
    groups = [""]
    for piece in pieces:
        if groups[-1] and len(groups[-1]) + len(piece) >= CHARACTERS:
            groups.append("")
        groups[-1] = f"{groups[-1]} {piece}".strip()
    return [part for part in dict.fromkeys(groups + pieces) if len(part) >= LEAST]


def _pieces(sentence: str) -> list[str]:
    if len(sentence) <= CHARACTERS:
        return [sentence]
    step = CHARACTERS - OVERLAP
    return [sentence[at : at + CHARACTERS] for at in range(0, len(sentence) - OVERLAP, step)]

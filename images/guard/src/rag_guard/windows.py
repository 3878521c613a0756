"""Texts cut into windows that the embedder reads whole: an attack must not hide in benign bulk."""

import re

GROUP, PIECE, OVERLAP = 300, 250, 60  # characters; PIECE: the embedder reads 256 tokens of any text
LEAST = 12  # shorter parts say nothing: the rules alone judge them
_BREAK = re.compile(r"(?<=[.!?])\s+|\n+")


def sentences(text: str) -> list[str]:
    """The sentences and lines of `text`, without the empty ones."""
    return [part.strip() for part in _BREAK.split(text) if part.strip()]


def windows(text: str) -> list[str]:
    """Each sentence, as another one beside an attack hides it, and groups of at most `GROUP` characters,
    as an attack may take several. A long sentence comes in overlapping pieces.
    """
    pieces = [piece for sentence in sentences(text) for piece in _pieces(sentence)]
    groups = [""]
    for piece in pieces:
        if groups[-1] and len(groups[-1]) + len(piece) >= GROUP:
            groups.append("")
        groups[-1] = f"{groups[-1]} {piece}".strip()
    return [part for part in dict.fromkeys(groups + pieces) if len(part) >= LEAST]


def _pieces(sentence: str) -> list[str]:
    if len(sentence) <= PIECE:
        return [sentence]
    step = PIECE - OVERLAP
    return [sentence[at : at + PIECE] for at in range(0, len(sentence) - OVERLAP, step)]

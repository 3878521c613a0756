"""Undo what hides an instruction from a pattern: look-alikes, invisible characters, spacing, encodings."""

import base64
import binascii
import codecs
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

_LOOKALIKES = str.maketrans(
    dict(
        zip(
            "аеорсухіїјѕԁһӏԛԝвкмнтαεοριτυνκηχωµЬьəɑɡıſ€",
            "aeopcyxiijsdhlqwbkmhtaeopituvknxwubbeagise",
            strict=True,
        )
    )
)
_LEET = str.maketrans("0134578@$!|", "oleastbasil")
_SPACED = re.compile(r"(?<!\w)\w([ .\-_*|]{1,2})\w(?:\1\w)+(?!\w)")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2}[ ,:]?){12,}|(?:\\x[0-9a-fA-F]{2}){8,}")
_DECODED_CHARACTERS = 4096
_GIVEAWAYS = ("instruct", "ignore", "prompt", "system", "disregard")


def plain(text: str) -> str:
    """NFKC, without invisible characters and accents, look-alikes as Latin letters, lower case."""
    compatible = unicodedata.normalize("NFKC", text)
    visible = "".join(c for c in compatible if _visible(c))
    decomposed = unicodedata.normalize("NFKD", visible.casefold())
    latin = "".join(c for c in decomposed if not unicodedata.combining(c)).translate(_LOOKALIKES)
    return re.sub(r"[^\S\n]+", " ", latin).strip()


def _visible(character: str) -> bool:
    return character in "\n\t" or unicodedata.category(character) not in {"Cf", "Cc", "Co", "Cn"}


def smuggled(text: str) -> str:
    """Text written in Unicode's invisible tag characters, else an empty string."""
    return "".join(chr(ord(c) - 0xE0000) for c in text if 0xE0020 <= ord(c) <= 0xE007E)


def variants(text: str) -> Iterator[str]:
    """The plain text, then other readings of it: letters joined, digits as letters, decoded parts."""
    base = plain(text)
    yield base
    if joined := _joined(base):
        yield joined
    if (letters := base.translate(_LEET)) != base:
        yield letters
        yield base.replace("1", "i").translate(_LEET)
    for decoded in decoded_parts(text):
        yield plain(decoded)


def _joined(text: str) -> str:
    """`i g n o r e  p r e v i o u s` as words, or empty when nothing is spaced out."""
    if not _SPACED.search(text):
        return ""
    return _SPACED.sub(lambda m: re.sub(r"[ .\-_*|]", "", m.group()), text)


def decoded_parts(text: str) -> Iterator[str]:
    """What is readable in the text's hidden, base64, hex, percent-encoded or rot13 parts."""
    if hidden := smuggled(text):
        yield hidden
    for match in _BASE64.finditer(text):
        yield from _readable(_base64(match.group()))
    for match in _HEX.finditer(text):
        yield from _readable(_hex(match.group()))
    if text.count("%") > 3 and (unquoted := unquote(text)) != text:
        yield unquoted
    yield from _shuffled(text[:_DECODED_CHARACTERS].lower())


def _shuffled(text: str) -> Iterator[str]:
    for undo in (lambda t: codecs.encode(t, "rot13"), lambda t: t[::-1]):
        if any(undo(word) in text for word in _GIVEAWAYS):
            yield undo(text)


def _base64(part: str) -> bytes:
    unpadded = part.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(unpadded + "=" * (-len(unpadded) % 4))
    except binascii.Error:
        return b""


def _hex(part: str) -> bytes:
    digits = re.sub(r"\\x|[ ,:]", "", part)
    return bytes.fromhex(digits[: len(digits) // 2 * 2])


def _readable(data: bytes) -> Iterator[str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    if len(text) >= 8 and sum(c.isprintable() or c.isspace() for c in text) == len(text):
        yield text[:_DECODED_CHARACTERS]

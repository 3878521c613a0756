"""A Hugging Face tokenizer without the padding and truncation that its file may carry."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from rag_embedding.backend import Encoded, InvalidTokensError


class TextTokenizer:
    """Texts to token ids, at most `max_tokens` of them with the special ones."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens = max_tokens
        special: list[int] = self._tokenizer.encode("").ids
        self._before = tuple(special[: (len(special) + 1) // 2])
        self._after = tuple(special[len(self._before) :])

    def json(self) -> str:
        """The tokenizer as `tokenizer.json`."""
        return str(self._tokenizer.to_str())

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Token ids of each text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        pairs = zip(encodings, texts, strict=True)
        return [self._fit(encoding.ids, text) for encoding, text in pairs]

    def wrap(self, ids: Sequence[int]) -> Encoded:
        """Add the special tokens to `ids`; raises `InvalidTokensError`."""
        size = self._tokenizer.get_vocab_size()
        if unknown := next((i for i in ids if not 0 <= i < size), None):
            raise InvalidTokensError(f"token id {unknown} is not in 0..{size - 1}")
        return self._fit(ids, self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _fit(self, ids: Sequence[int], text: str) -> Encoded:
        room = self.max_tokens - len(self._before) - len(self._after)
        kept = (*self._before, *ids[:room], *self._after)
        return Encoded(kept, text, truncated=len(ids) > room)


class Tokenizing:
    """What a `Backend` with a tokenizer of this kind leaves to it."""

    _tokenizer: TextTokenizer

    def tokenizer_json(self) -> str:
        """The tokenizer, without truncation or padding."""
        return self._tokenizer.json()

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokenise, truncating to `max_tokens`."""
        return self._tokenizer.encode(texts)

    def wrap(self, ids: Sequence[int]) -> Encoded:
        """Ids without special tokens made a text; raises `InvalidTokensError`."""
        return self._tokenizer.wrap(ids)

"""Makes the classifier: `python -m rag_guard.training --embedding-url URL [--output FILE]`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier

import rag_assets
from rag_assets import AssetError
from rag_guard import sources
from rag_guard.datasets import Labelled
from rag_guard.embedding import EmbeddingClient, EmbeddingError, Vectors
from rag_guard.evaluation import Embedded, flagged_share, threshold
from rag_guard.model import Model, Network
from rag_guard.normalise import plain
from rag_guard.sources import DATA, Sources
from rag_guard.windows import windows

FALSE_POSITIVES = {"request": 0.015, "retrieved": 0.005}
SEED, HIDDEN, DECAY = 0, 32, 0.01
_BEGINNING = 1000  # characters, about what the embedder reads
_BATCH, _SECONDS, _TRIES = 256, 120.0, 5


class Embedding:
    """Vectors of many texts from the service, and the digest of the model that made them all."""

    def __init__(self, url: str) -> None:
        self.url, self.digest = url, ""

    def __call__(self, texts: Sequence[str]) -> Embedded:
        """All windows of `texts`; raises `EmbeddingError`."""
        cut = [windows(plain(text)) for text in texts]
        vectors = self.vectors([window for group in cut for window in group])
        return Embedded(texts, vectors, [len(group) for group in cut])

    def vectors(self, texts: list[str]) -> Vectors:
        """One row a text, as it is; raises `EmbeddingError`."""
        return asyncio.run(self._all(texts))

    async def _all(self, texts: list[str]) -> Vectors:
        client = EmbeddingClient(self.url)
        parts = []
        for start in range(0, len(texts), _BATCH):
            parts.append(await self._some(client, texts[start : start + _BATCH]))
            print(f"\r{start + len(parts[-1])} of {len(texts)}", end="", file=sys.stderr)
        await client.close()
        print(file=sys.stderr)
        return np.concatenate(parts)

    async def _some(self, client: EmbeddingClient, texts: list[str]) -> Vectors:
        for left in reversed(range(_TRIES)):
            try:
                vectors, digest = await client.embed(texts, _SECONDS)
                break
            except EmbeddingError:
                if not left:
                    raise
                await asyncio.sleep(2)
        if self.digest not in ("", digest):
            raise EmbeddingError("it changed its model on the way")
        self.digest = digest
        return vectors


def fit(embed: Embedding, learn: Labelled) -> Network:
    """Learn from whole texts (their beginning): which sentence of one is the attack is not told."""
    beginnings = [plain(text)[:_BEGINNING] or "-" for text in learn.texts]
    network = MLPClassifier(
        (HIDDEN,), alpha=DECAY, early_stopping=True, max_iter=100, random_state=SEED
    ).fit(embed.vectors(beginnings), learn.attacks)
    return Network.of(network.coefs_, network.intercepts_)


def train(embed: Embedding, texts: Sources) -> tuple[Network, dict[str, float], dict[str, Any]]:
    """The network, its thresholds by kind of text, and what it achieves on what judges."""
    network = fit(embed, texts.fit)
    thresholds = {
        "request": threshold(network, embed(texts.ordinary), FALSE_POSITIVES["request"]),
        "retrieved": threshold(network, embed(texts.documents), FALSE_POSITIVES["retrieved"]),
    }
    measured = {
        name: flagged_share(network, embed(judging), thresholds["request"])
        for name, judging in texts.judged.items()
    } | {
        name: flagged_share(network, embed(judging), thresholds["retrieved"], retrieved=True)
        for name, judging in texts.judged_documents.items()
    }
    return network, thresholds, measured


def provenance(texts: Sources, measured: dict[str, Any]) -> dict[str, Any]:
    """Where the coefficients come from, for people."""
    declared = rag_assets.load_manifest()
    return {
        "made_by": "python -m rag_guard.training",
        "data": {name: declared[name].digest for name in DATA},
        "learnt_from": {
            "attacks": len(texts.fit.of(True)),
            "ordinary": len(texts.fit.of(False)),
            "sets": "S-Labs train, neuralchemy train, small talk and fitz-gov questions of the training half",
        },
        "thresholds_from": {
            "ordinary": len(texts.ordinary),
            "documents": len(texts.documents),
            "false_positives": FALSE_POSITIVES,
        },
        "measured": measured,
    }


def main() -> int:
    """Write the model; 1 when the data or the embedding service are not to be had."""
    parser = argparse.ArgumentParser(prog="rag_guard.training", description=__doc__)
    parser.add_argument("--embedding-url", required=True, help="the platform's embedding service")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("model.json"))
    options = parser.parse_args()
    embed = Embedding(options.embedding_url)
    try:
        texts = sources.load(*(rag_assets.fetch(name) for name in DATA))
        network, thresholds, measured = train(embed, texts)
    except (EmbeddingError, AssetError) as error:
        print(f"rag_guard.training: {error}", file=sys.stderr)
        return 1
    model = Model(network, thresholds["request"], thresholds["retrieved"], embed.digest)
    document = {"provenance": provenance(texts, measured)} | model.as_dict()
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

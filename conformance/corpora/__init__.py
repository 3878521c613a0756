"""Labelled corpora: the built-in one, your own, and both inside the platform."""

from conformance.corpora.model import LabelledCorpus, LabelledDocument, LabelledQuery, sample
from conformance.corpora.prepare import Ingested, Prepared, load, prepared

__all__ = [
    "Ingested",
    "LabelledCorpus",
    "LabelledDocument",
    "LabelledQuery",
    "Prepared",
    "load",
    "prepared",
    "sample",
]

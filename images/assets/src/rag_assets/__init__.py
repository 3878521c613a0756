"""Models and labelled data sets: fetched from declared sources, checked by SHA-256, cached."""

from rag_assets.cache import cache_dir, derived, is_derived
from rag_assets.errors import (
    AssetError,
    ChecksumError,
    ManifestError,
    SourceError,
    UnknownAssetError,
)
from rag_assets.fetch import fetch
from rag_assets.manifest import Asset, load_manifest

__all__ = [
    "Asset",
    "AssetError",
    "ChecksumError",
    "ManifestError",
    "SourceError",
    "UnknownAssetError",
    "cache_dir",
    "derived",
    "fetch",
    "is_derived",
    "load_manifest",
]

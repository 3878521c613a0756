"""`fetch`: an asset by name, from the first source that delivers what the manifest declares."""

import shutil
from pathlib import Path

from rag_assets.cache import cache_dir, install, locked
from rag_assets.checksum import require, untouched, write_receipt
from rag_assets.errors import AssetError, ChecksumError, SourceError
from rag_assets.hub import fetch_hub
from rag_assets.manifest import Asset, HubSource, Source, lookup
from rag_assets.package import fetch_package
from rag_assets.progress import Reporter, reporting


def folder_of(asset: Asset) -> Path:
    """Where the asset is or will be; a changed declaration is another folder."""
    return cache_dir() / "assets" / f"{asset.name}-{asset.digest[:16]}"


def _result(asset: Asset) -> Path:
    folder = folder_of(asset)
    return folder / next(iter(asset.files)) if asset.single else folder


def _deliver(asset: Asset, source: Source, target: Path, reporter: Reporter) -> None:
    if isinstance(source, HubSource):
        fetch_hub(source, asset.files, target, reporter)
    else:
        fetch_package(source, asset.files, target, reporter)
    for name, digest in asset.files.items():
        require(target / name, digest)


def _fill(asset: Asset, target: Path, reporter: Reporter) -> None:
    reasons = []
    for source in asset.sources:
        try:
            _deliver(asset, source, target, reporter)
        except (SourceError, ChecksumError) as error:
            reasons.append(str(error))
            continue
        shutil.rmtree(target / ".parts", ignore_errors=True)  # what a failed source left
        write_receipt(target, asset.files)
        return
    raise SourceError(f"{asset.name}: no source delivered it; " + "; ".join(reasons))


def _recheck(asset: Asset, folder: Path) -> None:
    """Hash the files again; what is damaged goes, so that the next fetch makes it anew."""
    try:
        for name, digest in asset.files.items():
            require(folder / name, digest)
    except AssetError:
        shutil.rmtree(folder)
        raise
    write_receipt(folder, asset.files)


def fetch(name: str, *, verify: bool = False) -> Path:
    """The file or folder of the asset `name`, downloaded and checked if it is not cached.

    `verify` hashes a cached asset again even when its size and time have not changed. Raises
    `UnknownAssetError`, `SourceError` when no source delivered, `ChecksumError` when a cached
    file was damaged (it is removed).
    """
    asset = lookup(name)
    folder = folder_of(asset)
    if not verify and untouched(folder, asset.files):
        return _result(asset)
    with locked(folder):
        if folder.exists():
            if verify or not untouched(folder, asset.files):
                _recheck(asset, folder)
        else:
            with reporting(name) as reporter:
                install(folder, lambda d: _fill(asset, d, reporter), keep_partial=True)
    return _result(asset)

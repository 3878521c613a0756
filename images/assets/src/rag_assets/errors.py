"""What can go wrong with an asset, as named exceptions."""


class AssetError(Exception):
    """An asset cannot be had; the message says which, why and what to do."""


class UnknownAssetError(AssetError):
    """The name is not declared in the manifest."""


class ManifestError(AssetError):
    """The manifest is malformed."""


class SourceError(AssetError):
    """A source did not deliver."""


class ChecksumError(AssetError):
    """A file is not what the manifest declares; it has been removed."""

import hashlib
import zipfile
from pathlib import Path

import pytest
import yaml


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Shelf:
    """A folder of wheels that pip takes for its index, and the manifest that names them."""

    def __init__(self, root: Path) -> None:
        self.wheels, self.manifest = root / "wheels", root / "assets.yaml"
        self.wheels.mkdir()
        self.assets: dict = {}

    sha256 = staticmethod(sha256)

    def wheel(self, name: str, members: dict[str, bytes]) -> str:
        """Make a wheel `name` 1.0 and return its SHA-256."""
        module = name.replace("-", "_")
        path = self.wheels / f"{module}-1.0-py3-none-any.whl"
        info = f"{module}-1.0.dist-info"
        meta = {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in (members | meta).items():
                archive.writestr(member, data)
        return sha256(path.read_bytes())

    def declare(self, name: str, **body: object) -> None:
        self.assets[name] = {"kind": "dataset", "upstream": "x", "licence": "MIT"} | body
        self.manifest.write_text(yaml.safe_dump({"assets": self.assets}, sort_keys=False))

    def declare_folder(self, name: str = "corpus", data: bytes = b"hello") -> None:
        digest = self.wheel(
            "data-set", {"data_set/data/a.txt": data, "data_set/data/b/c.txt": b"c"}
        )
        source = {"package": {"folder": "data_set/data", "wheels": {"data-set==1.0": digest}}}
        self.declare(
            name, files={"a.txt": sha256(b"hello"), "b/c.txt": sha256(b"c")}, sources=[source]
        )


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    shelf = Shelf(tmp_path)
    monkeypatch.setenv("RAG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("RAG_ASSETS_FILE", str(shelf.manifest))
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf.wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return shelf

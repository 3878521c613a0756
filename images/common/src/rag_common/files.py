"""Small files: secrets that rotate under a running process, and writes that never leave half a file."""

import json
import os
import tempfile
from pathlib import Path
from typing import NamedTuple


class Credentials(NamedTuple):
    """A username and a password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, password=…)"


class SecretFileError(Exception):
    """A secret's file is missing, unreadable or malformed; the message never has its content."""


def read_secret(path: Path) -> str:
    """The file's text without the final newline; call it for each use, so that rotation works."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise SecretFileError(f"{path}: {error.strerror}") from error


def read_credentials(path: Path) -> Credentials:
    """Username and password from `{"username": …, "password": …}`, the form Vault renders."""
    text = read_secret(path)
    try:
        data = json.loads(text)
        return Credentials(str(data["username"]), str(data["password"]))
    except (ValueError, KeyError, TypeError) as error:
        raise SecretFileError(
            f'{path}: expected {{"username": …, "password": …}} ({type(error).__name__})'
        ) from None


def sync_directory(directory: Path) -> None:
    """Make the directory's entries durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` by `data` in one step, durable when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)  # noqa: PTH101 - the descriptor's own file
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)

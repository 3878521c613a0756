import os
import stat

import pytest

from rag_common.files import (
    Credentials,
    SecretFileError,
    read_credentials,
    read_secret,
    write_atomic,
)


def test_credentials_are_read_again_each_time(tmp_path):
    path = tmp_path / "login.json"
    for password in ("one", "two"):
        path.write_text(f'{{"username": "u", "password": "{password}"}}')
        assert read_credentials(path) == Credentials("u", password)


def test_a_password_does_not_show_in_repr():
    assert "hunter2" not in repr(Credentials("u", "hunter2"))


@pytest.mark.parametrize("text", ["hunter2", '{"username": "hunter2"}', '["hunter2"]'])
def test_a_malformed_file_names_itself_and_not_its_content(tmp_path, text):
    path = tmp_path / "login.json"
    path.write_text(text)
    with pytest.raises(SecretFileError, match="login.json") as error:
        read_credentials(path)
    assert "hunter2" not in str(error.value)


def test_a_missing_secret_says_which(tmp_path):
    with pytest.raises(SecretFileError, match=r"gone: No such file"):
        read_secret(tmp_path / "gone")


def test_the_final_newline_is_not_part_of_a_secret(tmp_path):
    (tmp_path / "key").write_text("abc\n")
    assert read_secret(tmp_path / "key") == "abc"


def test_a_write_replaces_and_sets_the_mode(tmp_path):
    path = tmp_path / "new" / "file"
    write_atomic(path, b"1")
    write_atomic(path, b"2", mode=0o600)
    assert path.read_bytes() == b"2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "not bytes")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_write_makes_its_directory_entry_durable(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def record(handle):
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", record)
    write_atomic(tmp_path / "file", b"1")
    assert synced[-1] == str(tmp_path.resolve())

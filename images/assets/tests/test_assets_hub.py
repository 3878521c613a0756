import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rag_assets import SourceError, cache_dir, fetch

REVISION = "a" * 40
CONTENT = b"0123456789" * 1000


class Hub(ThreadingHTTPServer):
    """A hub with one repository; `cut` breaks the connection after that many bytes."""

    files: dict[str, bytes]
    cut: int | None = None

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.files = {}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        data = self.server.files.get(self.path)
        if data is None:
            return self.send_error(404)
        start = int(asked.split("=")[1].rstrip("-")) if asked else 0
        if asked and start >= len(data):
            return self.send_error(416)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = None if self.server.cut is None else start + self.server.cut
        self.wfile.write(data[start:end])
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def model(shelf, hub):
    hub.files = {f"/o/m/resolve/{REVISION}/{n}": CONTENT for n in ("w.bin", "sub/t.json")}
    files = dict.fromkeys(("w.bin", "sub/t.json"), shelf.sha256(CONTENT))
    shelf.declare("m", files=files, sources=[{"hub": {"repo": "o/m", "revision": REVISION}}])
    return hub


def test_files_come_from_the_pinned_revision(model):
    folder = fetch("m")
    assert (folder / "sub/t.json").read_bytes() == CONTENT
    assert [path for path, _ in model.requests] == [
        f"/o/m/resolve/{REVISION}/w.bin",
        f"/o/m/resolve/{REVISION}/sub/t.json",
    ]


def test_an_interrupted_file_continues_where_it_stopped(model):
    model.cut = 4000
    with pytest.raises(SourceError, match=r"w\.bin"):
        fetch("m")
    assert not list((cache_dir() / "assets").glob("m-*"))
    model.cut = None
    assert (fetch("m") / "w.bin").read_bytes() == CONTENT
    assert model.requests[-2][1] == "bytes=4000-"


def test_a_complete_part_that_was_not_yet_renamed_is_used(model):
    model.cut = 4000
    with pytest.raises(SourceError):
        fetch("m")
    next(cache_dir().rglob("w.bin.part")).write_bytes(CONTENT)
    model.cut = None
    assert (fetch("m") / "w.bin").read_bytes() == CONTENT


def test_other_content_is_refused_and_removed(model):
    model.files[f"/o/m/resolve/{REVISION}/w.bin"] = b"something else"
    with pytest.raises(SourceError, match="SHA-256 is .*; removed"):
        fetch("m")
    assert not list(cache_dir().rglob("w.bin*"))


def test_a_missing_file_and_a_dead_hub_are_named(model, monkeypatch):
    model.files.clear()
    with pytest.raises(SourceError, match="404"):
        fetch("m")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError, match="127.0.0.1:9"):
        fetch("m")

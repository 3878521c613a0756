"""Every format to text; everything broken is set aside with its reason."""

import io
import json
import zipfile
from pathlib import Path

import anyio.to_process
import pytest
from docx import Document
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from rag_ingestion.chunking import ChunkSettings
from rag_ingestion.convert import convert
from rag_ingestion.decode import decode
from rag_ingestion.errors import DocumentError, Reason
from rag_ingestion.workers import Workers

SAMPLE = Path(__file__).parents[3] / "cli/src/ragctl/sample/documents"
GERMAN = "Die Kündigungsfrist für Einlagen beträgt sechs Wochen, darüber hinaus gilt: höher. " * 8


def pdf(text: str = "The limit is 500 euros.", **options) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, **options)
    canvas.drawString(72, 720, text)
    canvas.save()
    return out.getvalue()


def docx(paragraph: str = "words") -> bytes:
    out = io.BytesIO()
    document = Document()
    document.add_heading("A title", 1)
    document.add_paragraph(paragraph)
    document.save(out)
    return out.getvalue()


def reason(key: str, data: bytes) -> Reason:
    with pytest.raises(DocumentError) as caught:
        convert(key, data)
    assert caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize(
    ("key", "data", "expected"),
    [
        ("a.md", b"# T\r\nx\r", "# T\nx\n"),
        ("a.TXT", b"plain", "plain"),
        ("a.json", b'{"a": 1}', '{"a": 1}'),
        ("a.html", b"<h1>T</h1><script>no</script><p>body</p>", "# T\n\nbody"),
        ("a.csv", b"a,b\n1,2\n", "| a | b |\n| --- | --- |\n| 1 | 2 |"),
        ("a.pdf", pdf(), "The limit is 500 euros."),
        ("a.docx", docx(), "# A title\n\nwords"),
    ],
)
def test_formats(key, data, expected):
    assert convert(key, data).text.strip() == expected.strip()


def test_office_samples():
    deck = convert("s.pptx", (SAMPLE / "hospital/sepsis.pptx").read_bytes()).text
    assert "NEWS2 score of 7" in deck
    assert "Slide number" not in deck
    book = convert("s.xlsx", (SAMPLE / "bank/interest-rates.xlsx").read_bytes())
    assert "| 12 months | 2.25 % |" in book.text
    assert not book.headed


@pytest.mark.parametrize(
    ("key", "data", "expected"),
    [
        ("a.exe", b"MZ", Reason.UNSUPPORTED),
        ("no-suffix", b"text", Reason.UNSUPPORTED),
        ("a.txt", b"", Reason.EMPTY),
        ("a.md", b" \n\t", Reason.EMPTY),
        ("a.pdf", pdf(""), Reason.EMPTY),
        ("a.pdf", b"not a pdf %%EOF", Reason.CORRUPT),
        ("a.pdf", pdf()[:-300], Reason.CORRUPT),
        ("a.pdf", b"%PDF-1.7\nnothing\n%%EOF", Reason.CORRUPT),
        ("a.pdf", pdf(encrypt=StandardEncryption("secret")), Reason.ENCRYPTED),
        ("a.docx", docx()[:-100], Reason.CORRUPT),
        ("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99, Reason.UNSUPPORTED),
        (
            "a.xlsx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            Reason.ENCRYPTED,
        ),
        ("a.pptx", docx(), Reason.CORRUPT),
        ("a.json", b'{"a": ', Reason.CORRUPT),
        ("a.json", b"[" * 200_000, Reason.CORRUPT),
        ("a.txt", b"a\0b", Reason.ENCODING),
        ("a.txt", bytes(range(128, 256)) * 4, Reason.ENCODING),
        ("a.html", bytes(range(128, 256)) * 4, Reason.ENCODING),
    ],
)
def test_set_aside(key, data, expected):
    assert reason(key, data) is expected


def test_a_zip_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr("rag_ingestion.convert._MAX_EXPANDED_BYTES", 1_000_000)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * 1_000_001)
    assert reason("a.docx", out.getvalue()) is Reason.TOO_LARGE


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_sure_charsets(charset):
    assert decode(GERMAN.encode(charset)) == GERMAN


@pytest.mark.parametrize("data", [GERMAN.encode("cp1252"), b"five \xc3\x28 and \xe2\x28\xa1 more"])
def test_a_charset_is_not_guessed(data):
    with pytest.raises(DocumentError, match="not UTF-8"):
        decode(data)


def test_declared_charset():
    page = '<html><head><meta charset="iso-8859-2"></head><p>Zażółć</p>'
    assert "Zażółć" in decode(page.encode("iso-8859-2"))
    with pytest.raises(DocumentError):
        decode(b'<meta charset="no-such">\xff\xfe\xfd\x80\x81')


@pytest.fixture
def workers(tokenizer_file):
    def make(seconds: float = 60, memory_mb: int = 2048) -> Workers:
        cut = ChunkSettings(tokenizer_file, 200, 0.1, 256)
        return Workers(cut, limit=1, seconds=seconds, memory_mb=memory_mb)

    return make


@pytest.fixture
def bad_parsers(tmp_path, monkeypatch):
    """A module that a worker process can import too."""
    (tmp_path / "bad_parsers.py").write_text(
        "import os, time\n"
        "from rag_ingestion.workers import limited\n"
        "def crash(*_): os.abort()\n"
        "def hang(*_): time.sleep(60)\n"
        "def instead(prepare, arguments):\n"
        "    from rag_ingestion import workers\n"
        "    own, workers.prepare = workers.prepare, prepare\n"
        "    try: return workers.limited(*arguments)\n"
        "    finally: workers.prepare = own\n"
        "def endless(*_): return endless()\n"
        "def deep(*arguments): return instead(endless, arguments)\n"
        "def greedy(*arguments): return instead(lambda *_: bytearray(1 << 40), arguments)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import bad_parsers

    return bad_parsers


@pytest.mark.parametrize(
    ("parser", "expected"),
    [
        ("crash", Reason.CRASH),
        ("greedy", Reason.MEMORY),
        ("deep", Reason.CORRUPT),
        ("hang", Reason.TIMEOUT),
    ],
)
async def test_a_bad_parser_costs_one_document(workers, bad_parsers, parser, expected):
    pool = workers()
    pool.task = getattr(bad_parsers, parser)
    pool.seconds = 3 if parser == "hang" else 60
    with pytest.raises(DocumentError) as caught:
        await pool.prepare("a.docx", docx())
    assert caught.value.reason is expected
    pool = workers()
    chunked = await pool.prepare("b.txt", b"# word " * 50_000)
    assert len(chunked.chunks) > 100


async def test_small_text_needs_no_process(workers, bad_parsers):
    pool = workers()
    pool.task = bad_parsers.crash
    assert (await pool.prepare("a.json", json.dumps({"k": "v"}).encode())).title == "a"


BOMB = (
    "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{n}: &{n} [{', '.join([f'*{p}'] * 10)}]\n"
        for p, n in zip("abcdefgh", "bcdefghi", strict=True)
    )
    + "title: *i\n"
)


@pytest.mark.parametrize(
    ("front", "title"),
    [
        (BOMB, "Heading"),
        ("title: [a, b]\n", "Heading"),
        ('title: "a\\0b\\ud800c"\n', "ab?c"),
        ("title: Own\n", "Own"),
    ],
)
async def test_a_title_is_a_string_that_a_store_can_hold(workers, front, title):
    text = f"---\n{front}---\n\n# Heading\n\nbody\n"
    chunked = await workers().prepare("a.md", text.encode())
    assert chunked.title == title


@pytest.mark.parametrize("front", ["date: 2024-13-45", "x: " + "[" * 5000, "x: !!int ''"])
async def test_front_matter_that_yaml_chokes_on_is_text(workers, front):
    chunked = await workers().prepare("a.md", f"---\n{front}\n---\n\n# Heading\n\nbody\n".encode())
    assert chunked.chunks[-1].text.strip().endswith("body")


def test_a_charset_that_always_fails_is_the_documents_fault():
    assert reason("a.html", b'<meta charset="undefined">\xff\xfa') is Reason.ENCODING


async def test_any_other_exception_is_one_documents(workers, monkeypatch):
    def explode(*_):
        raise KeyError("what only the parser knows")

    monkeypatch.setattr("rag_ingestion.workers.prepare", explode)
    with pytest.raises(DocumentError) as caught:
        await workers().prepare("a.md", b"text")
    assert (caught.value.reason, caught.value.detail) == (Reason.CORRUPT, "KeyError")


async def test_waiting_for_other_processes_is_not_conversion_time(workers, bad_parsers):
    pool = workers(seconds=30)
    pool.task = bad_parsers.limited
    everyone = anyio.to_process.current_default_process_limiter()
    before, everyone.total_tokens = everyone.total_tokens, 1
    try:
        async with everyone:
            assert (await pool.prepare("a.docx", docx())).chunks
    finally:
        everyone.total_tokens = before

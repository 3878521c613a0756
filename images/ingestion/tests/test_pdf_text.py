import io

from markitdown import StreamInfo
from markitdown.converters import PdfConverter
from reportlab.pdfgen.canvas import Canvas

from rag_ingestion.convert import convert
from rag_ingestion.pdf_text import glued, repaired

WRAPPED = (
    "The review took two weeks. From June 16 to June 30, 2022, a team\n"
    "of two consultants read the source code, with four weeks of\n"
    "effort. It found three flaws."
)


def test_wrapped_lines_are_joined():
    assert repaired(WRAPPED) == WRAPPED.replace("\n", " ")


def test_short_lines_lists_and_tables_keep_their_lines():
    text = (
        "Project Scope\nOur testing was focused on flaws that could result in the\n"
        "- loss of data and of the keys that protect it in the vault of\n- loss of time\n"
        "| a | b |\n| - | - |\n| a long cell that fills the line with words and more words | 2 |\n| c | d |"
    )
    assert repaired(text) == text


def test_running_headers_and_footers_are_dropped():
    pages = [f"Acme report\nTotal: {7 * n} euros\nAcme, page {n + 3}" for n in range(6)]
    assert repaired("\n\n".join(pages)) == "\n\n".join(f"Total: {7 * n} euros" for n in range(6))


def test_what_repeats_inside_pages_or_on_few_stays():
    pages = [f"Finding {n}\na\nb\nSeverity: High\nc\nd\ne{n}x" for n in range(3)]
    text = "\n\n".join(pages)
    assert repaired(text) == text


def test_an_empty_text_stays_empty():
    assert repaired("") == ""


def typeset(lines: list[str]) -> bytes:
    """A table, then a page as TeX sets it: a space is a gap of a quarter em, not a character."""
    out = io.BytesIO()
    canvas = Canvas(out)
    for row in range(8):
        for column, word in enumerate(("Branch", "Ledger", "Years", "Copies")):
            canvas.drawString(72 + 120 * column, 700 - 20 * row, f"{word}{row}")
    canvas.showPage()
    text = canvas.beginText(72, 700)
    text.setFont("Times-Roman", 9.96)
    for line in lines:
        text._code.append(f"0 -12.95 Td [({')-250('.join(line.split())})] TJ")
    canvas.drawText(text)
    canvas.showPage()
    canvas.save()
    return out.getvalue()


PROSE = [
    "The retention period of the ledger is seven years after the account closes,",
    "and every branch keeps a signed copy of the form in its archive downstairs.",
    "A customer may ask for the record at any time during those seven years.",
]


def test_words_that_a_typesetter_parted_by_a_gap_stay_apart():
    page = typeset(PROSE * 5)
    by_markitdown = PdfConverter().convert(io.BytesIO(page), StreamInfo(extension=".pdf")).markdown
    assert glued(by_markitdown), "MarkItDown reads this page by itself now: spaced() may go"
    assert "retention period of the ledger is seven years" in convert("a.pdf", page).text


def test_only_words_run_together_are_glued():
    assert glued("Theretentionperiodoftheledgerissevenyears aftertheaccountcloses, andso on")
    assert not glued(" ".join(PROSE))
    assert not glued("See https://example.org/a/very/long/address/of/something ------------ here")
    assert not glued("")
    assert not glued("Donaudampfschifffahrtselektrizitätenhauptbetriebswerk " + " ".join(PROSE * 3))


def test_a_line_that_is_all_there_is_stays():
    assert repaired("\n\n".join(["Confidential"] * 6)).strip()

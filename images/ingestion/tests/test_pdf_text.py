from rag_ingestion.pdf_text import repaired

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

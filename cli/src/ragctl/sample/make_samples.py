"""Write the binary sample documents again, byte for byte the same.

Development only: `python make_samples.py` needs python-docx, python-pptx (with XlsxWriter) and reportlab.
"""

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from docx import Document
from pptx import Presentation
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Flowable, Paragraph, SimpleDocTemplate, Spacer
from xlsxwriter import Workbook

HERE = Path(__file__).parent / "documents"
WHEN = datetime(2026, 1, 5, tzinfo=UTC).replace(tzinfo=None)
EPOCH = (2026, 1, 5, 0, 0, 0)

AML = {
    "Customer identification": (
        "A customer is identified before the first transaction, by a passport or national identity "
        "card or by video identification. Copies are kept for five years after the end of the "
        "relationship.",
        "Beneficial owners are all persons who hold more than 25 per cent of a company.",
    ),
    "Cash": (
        "Cash deposits of 10,000 euros or more need proof of the origin of the money. Several "
        "deposits within seven days count as one.",
    ),
    "Politically exposed persons": (
        "A relationship with a politically exposed person is approved by the Money Laundering "
        "Reporting Officer, Helene Marchetti, and reviewed every six months.",
    ),
    "Suspicious activity": (
        "A suspicion is reported in the system Sentinel on the same day. The customer is never told. "
        "The transaction is held for up to three working days.",
    ),
}

FIRE = {
    "Alarm": (
        "Press the nearest red call point and dial 112 from any hospital telephone. Say where the fire "
        "is, what burns and whether people are in danger.",
    ),
    "Evacuation": (
        "Evacuate horizontally first: move patients behind the next fire door, which holds for 90 "
        "minutes. Vertical evacuation is ordered only by the fire brigade or the incident manager.",
        "Lifts are never used. The assembly point is car park C.",
    ),
    "Oxygen": (
        "The charge nurse closes the oxygen shut-off valve of the ward only after every ventilated "
        "patient has a cylinder; a full 5-litre cylinder lasts about 100 minutes at 10 litres a "
        "minute.",
    ),
    "Drills": (
        "Each ward has a fire drill every 12 months. The fire safety officer is Matteo Fabbri, "
        "extension 3909.",
    ),
}

RATES = {
    "Fixed deposits": (
        ("Term", "Rate a year", "Minimum"),
        ("6 months", "1.90 %", "5,000 euros"),
        ("12 months", "2.25 %", "5,000 euros"),
        ("36 months", "2.60 %", "10,000 euros"),
    ),
    "Mortgages": (
        ("Fixed for", "Rate a year", "Largest share of the value"),
        ("5 years", "3.35 %", "80 %"),
        ("10 years", "3.15 %", "80 %"),
        ("20 years", "3.55 %", "70 %"),
    ),
}

SEPSIS = {
    "Sepsis: the first hour": (
        "Measure lactate; repeat it after two hours when it is above 2 mmol per litre",
        "Take two pairs of blood cultures before antibiotics",
        "Give antibiotics within 60 minutes of recognition",
        "Give 30 millilitres of crystalloid per kilogram when the blood pressure is low",
    ),
    "Who is called": (
        "Rapid response team: extension 3333, at a NEWS2 score of 7 or more",
        "Intensive care consultant when the lactate stays above 4 mmol per litre",
        "Sepsis coordinator: Dr. Priya Raman",
    ),
}


def _normalised(data: bytes) -> bytes:
    """A zip container with constant times, so that two runs give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in sorted(old.namelist(), key=lambda n: (n != "[Content_Types].xml", n)):
            member = zipfile.ZipInfo(name, EPOCH)
            new.writestr(member, old.read(name), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def docx(title: str, sections: Mapping[str, Sequence[str]]) -> bytes:
    """A Word document with headings."""
    document = Document()
    document.core_properties.created = document.core_properties.modified = WHEN
    document.add_heading(title, 1)
    for heading, paragraphs in sections.items():
        document.add_heading(heading, 2)
        for paragraph in paragraphs:
            document.add_paragraph(paragraph)
    out = io.BytesIO()
    document.save(out)
    return _normalised(out.getvalue())


def pdf(title: str, sections: Mapping[str, Sequence[str]]) -> bytes:
    """A PDF of running text."""
    styles = getSampleStyleSheet()
    story: list[Flowable] = [Paragraph(title, styles["Title"])]
    for heading, paragraphs in sections.items():
        story.append(Paragraph(heading, styles["Heading2"]))
        story += [Paragraph(text, styles["BodyText"]) for text in paragraphs]
        story.append(Spacer(1, 8))
    out = io.BytesIO()
    SimpleDocTemplate(out, title=title, author="Sample", invariant=1).build(story)
    return out.getvalue()


def xlsx(sheets: Mapping[str, Sequence[Sequence[str]]]) -> bytes:
    """A workbook with a sheet for each table."""
    out = io.BytesIO()
    with Workbook(out, {"in_memory": True}) as book:
        book.set_properties({"created": WHEN})
        for name, rows in sheets.items():
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return _normalised(out.getvalue())


def pptx(slides: Mapping[str, Sequence[str]]) -> bytes:
    """A presentation with a bullet list on each slide."""
    deck = Presentation()
    deck.core_properties.created = deck.core_properties.modified = WHEN
    for title, bullets in slides.items():
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(bullets)
    out = io.BytesIO()
    deck.save(out)
    return _normalised(out.getvalue())


def truncated() -> bytes:
    """A PDF whose transfer broke off: ingestion has to set it aside."""
    whole = pdf("Pension Plan 2025", {"Contribution": ("The employer pays 4 per cent.",)})
    return whole[: len(whole) * 2 // 3]


SAMPLES: dict[str, Callable[[], bytes]] = {
    "bank/anti-money-laundering.docx": lambda: docx("Anti-Money Laundering Manual", AML),
    "bank/interest-rates.xlsx": lambda: xlsx(RATES),
    "bank/pension-plan.pdf": truncated,
    "hospital/fire-safety.pdf": lambda: pdf("Fire Safety Plan", FIRE),
    "hospital/sepsis.pptx": lambda: pptx(SEPSIS),
}


def main() -> None:
    """Write every sample into `documents`."""
    for name, make in SAMPLES.items():
        (HERE / name).write_bytes(make())


if __name__ == "__main__":
    main()

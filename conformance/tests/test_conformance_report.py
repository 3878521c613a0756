"""The report: sealed, signed, readable, and loading nothing from anywhere."""

import json
import math
import re
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conformance.errors import SuiteError
from conformance.gate import Measurement, Plot
from conformance.jsonable import plain
from conformance.report import bars, page, plots, scale, seal, summary

RICH = """
def measure(ctx):
    ctx.evidence.write("a & b.txt", "x")
    series = {"one": [(0, 1), (1, float("nan")), (2, 3)], "two": [(0, 2)]}
    plot = Plot("<b>P95</b>", "s", "share", series, "bar")
    return Observation(
        {"x": Measurement(0.9, 100, 0.87, 0.93), "latency": Measurement(12.5, 2000, 11, 14, "s")},
        notes=["<script>alert(1)</script>"],
        plots=[plot, Plot("Line", "x", "y", {"a": [(0, 1), (1, 2)]})],
    )
FAULTS = [Fault("a fault <i>", lambda ctx: contextlib.nullcontext())]
"""
SLO = {
    "required": True,
    "smaller_because": "two cores <only>",
    "metrics": {
        "x": {"min": 0.85, "bound": "low", "n_min": 10},
        "latency": {"max": 20, "unit": "s", "production": {"max": 3}, "reason": "two CPU cores"},
    },
}


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture
def html(suite):
    suite.gate("alpha", RICH, slo=SLO)
    suite.gates["foundation"] = {"absent": {"not_applicable": "no cluster here"}}
    assert suite.run("--prove") == 1
    return (suite.report_folder / "report.html").read_text()


def test_the_page_has_what_a_reader_needs(html):
    for part in (
        "NO-GO",
        "1 of 1 required gates passed",
        "0.87 to 0.93",
        "≤ 3 s",
        "two CPU cores",
        "Smaller samples than production&#39;s: two cores &lt;only&gt;.".replace("&#39;", "'"),
        "2,000",
        "evidence/alpha/a%20%26%20b.txt",
        "no cluster here",
        "Proof that the gates can fail",
    ):
        assert part in html
    assert html.index("NO-GO") < html.index("Foundation")


def test_the_page_loads_nothing_and_escapes_everything(html):
    assert not re.search(r"<(script|link|img|iframe)\b", html)
    assert not re.search(r'(src|href)="(https?:)?//', html)
    assert "@import" not in html
    assert "<b>P95" not in html
    assert "a fault &lt;i&gt;" in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_a_report_is_sealed_and_signed(suite, green):
    key = Ed25519PrivateKey.generate()
    (suite.folder / "key.pem").write_bytes(pem(key))
    public = suite.folder / "key.pub.pem"
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    suite.gate("alpha", green)
    assert suite.run("--signing-key", str(suite.folder / "key.pem")) == 0
    folder = suite.report_folder
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert checked.returncode == 0
    assert seal.verify(folder, public) == []
    (folder / "report.json").write_text("{}")
    assert seal.verify(folder, public) == ["report.json: changed or missing"]
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace("0", "1"))
    assert any("signature" in problem for problem in seal.verify(folder, public))
    assert suite.run() == 0
    assert not (folder / "SHA256SUMS.sig").exists()


def test_only_an_ed25519_key_signs(tmp_path):
    file = tmp_path / "key.pem"
    file.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    with pytest.raises(SuiteError, match="not an Ed25519 key"):
        seal.private_key(file)
    with pytest.raises(SuiteError, match="No such file"):
        seal.private_key(tmp_path / "none")


def test_the_report_says_where_it_comes_from(suite, green):
    suite.gate("alpha", green)
    suite.run()
    report = suite.report
    assert re.fullmatch(r"[0-9a-f]{64}", report["slo"]["sha256"])
    assert report["machine"]["cores"] >= 1
    assert report["versions"]["pytest"]
    assert report["started"] <= report["ended"]
    assert "dirty" in report["git"]


@pytest.mark.parametrize(
    ("limit", "value", "low", "high"),
    [
        ({"min": 0.85}, 0.9, 0.87, 0.93),
        ({"max": 0.5}, 0.1, None, None),
        ({"max": 0}, 0, None, None),
        ({"min": 0.85}, 0.2, 0.1, math.inf),
    ],
)
def test_a_bar_stays_inside_its_picture(limit, value, low, high):
    measured = plain(Measurement(value, 10, low, high))
    svg = bars.bar(measured, limit, True)
    positions = [float(x) for x in re.findall(r'\b(?:cx|x1|x2)="([^"]+)"', svg)]
    assert positions
    assert all(0 <= x <= bars.WIDTH for x in positions)


def test_no_bar_without_a_number():
    assert bars.bar(None, {"min": 1}, False) == ""
    assert bars.bar(plain(Measurement(math.nan, 1)), {"min": 1}, False) == ""


@pytest.mark.parametrize("kind", ["line", "step", "bar", "scatter"])
def test_every_kind_of_plot_is_drawn(kind):
    svg = plots.svg(Plot("T", "x", "y", {"a": [(0, 1), (1, 2)]}, kind), "g-1")
    assert svg.startswith("<svg")
    assert 'id="g-1-' in svg
    assert plots.svg(Plot("Empty", "x", "y", {"a": []}, kind), "g-2").startswith("<svg")


def test_what_happened_and_what_is_counted_stand_in_the_plot():
    marked = Plot("T", "s", "y", {"a": [(0, 1), (9, 2)]}, marks=[(3, "the <guard> goes")])
    assert "the &lt;guard&gt; goes" in plots.svg(marked, "g-1")
    named = Plot("T", "", "s", {"a": [(0, 1), (1, 2)]}, "bar", names=["rag-a/b", "rag-c/d"])
    assert "rag-a/b" in plots.svg(named, "g-2")


def test_a_gates_table_is_on_the_page_and_in_the_data(suite):
    body = """
    def measure(ctx):
        table = Table("What <worked>", ("who", "why"), [("a & b", "c")])
        return Observation({"x": Measurement(0.9, 100)}, tables=[table])
    """
    suite.gate("alpha", body)
    suite.run()
    table = {"title": "What <worked>", "head": ["who", "why"], "rows": [["a & b", "c"]]}
    assert suite.result("alpha")["tables"] == [table]
    text = (suite.report_folder / "report.html").read_text()
    assert "What &lt;worked&gt;" in text and "<td>a &amp; b</td><td>c</td>" in text


def test_numbers_for_people():
    assert page.value(0.123456) == "0.1235"
    assert page.value(1234567, "s") == "1,234,567 s"
    assert page.value("nan") == "nan"
    assert page.limit({"max": 0.5}, "seconds") == "≤ 0.5 s"
    assert page.limit(None) == ""


def test_what_to_do_travels_with_the_report(suite, green, capfd):
    suite.gate("gateway-auth", green, phase="intelligence")
    suite.gate("alpha", green)
    suite.run()
    assert "report.html" in capfd.readouterr().err  # the page is what the last line names
    text = (suite.report_folder / "report.html").read_text()
    assert re.findall(r'href="(runbooks/[^"]+)"', text) == ["runbooks/gateway-auth.md"]
    assert (
        (suite.report_folder / "runbooks/gateway-auth.md").read_text().startswith("# gateway-auth")
    )
    assert "runbooks/gateway-auth.md" in seal.sealed(suite.report_folder)


def test_the_summary_has_the_verdict_its_reasons_and_the_numbers(suite, green, capsys):
    suite.gate("alpha", RICH, slo=SLO)
    suite.gate("beta", green, slo={"required": True, "metrics": {"x": {"min": 0.95}}})
    suite.gates["foundation"] = {"absent": {"not_applicable": "no | cluster\nhere"}}
    suite.run()
    assert summary.main([str(suite.report_folder)]) == 0
    text = capsys.readouterr().out
    assert "# NO-GO on local\n" in text
    assert "- **beta**: x: value 0.9 is not ≥ 0.95" in text
    assert "| alpha | pass | latency | 12.5 s | ≤ 20 s | 2,000 |" in text
    assert "| absent | not-applicable | no \\| cluster here | | | |" in text
    assert summary.main([str(suite.folder / "none")]) == 2


def test_the_curve_of_the_corpus_is_drawn_from_the_benchmark(tmp_path, html):
    row = {"recall_at_10": 0.99, "store_p95_ms": 2.0, "retrieval_p95_ms": 3.0, "derived": 0}
    figures = {"100000": {**row, "derived": 90_000}, "10000": row}
    machine = {"cpu": "a processor", "cores": 2, "load_before": 0.5}
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"corpus": {"figures": figures, "machine": machine}}))
    found = scale.read(file)
    assert found.derived == 90_000
    assert found.plots[0].names == ["10,000", "100,000"]
    assert found.plots[1].series["retrieval"] == [(0, 3), (1, 3)]
    assert scale.read(tmp_path / "none.json") is None
    assert "as the corpus grows" in html

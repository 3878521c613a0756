"""Only a signed GO of exactly this revision lets a promotion pass; all else is refused, with its reason."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conformance import promotion
from conformance.report import machine, seal

SHA = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


def keys(folder, name):
    """A private and a public key file."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / name, folder / f"{name}.pub"
    no = serialization.NoEncryption()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = serialization.Encoding.PEM
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no))
    public.write_bytes(key.public_key().public_bytes(pem, form))
    return private, public


class Case:
    """A signed GO report of the real suite, to be changed and signed again."""

    def __init__(self, suite):
        self.folder, self.slos = suite.report_folder, suite.folder / "slos"
        self.private, self.public = keys(suite.folder, "staging")

    def ask(self, *options):
        return promotion.main(
            [
                *(str(self.folder), "--revision", SHA, "--environment", "staging"),
                *("--public-key", str(self.public), "--slos", str(self.slos), *options),
            ]
        )

    def change(self, **values):
        """Change the report and sign it again with the right key."""
        file = self.folder / "report.json"
        data = json.loads(file.read_text())
        for path, value in values.items():
            *parents, name = path.split("__")
            where = data
            for part in parents:
                where = where[int(part) if part.isdigit() else part]
            where[name] = value
        file.write_text(json.dumps(data))
        self.sign()

    def sign(self, key=None):
        files = [p for p in self.folder.iterdir() if p.suffix in {".json", ".html", ".xml"}]
        seal.seal(self.folder, files, key or self.private)


@pytest.fixture
def case(suite, green, monkeypatch):
    monkeypatch.setattr(machine, "revision", lambda: {"revision": SHA, "dirty": False})
    suite.target |= {"environment": "staging", "revision": f"main@sha1:{SHA}"}
    suite.top["environment"] = "staging"
    suite.gate("flux-converged", green, phase="foundation")
    suite.gate("alpha", green)
    made = Case(suite)
    assert suite.run("--signing-key", str(made.private)) == 0
    made.slos.mkdir()
    shutil.copy(suite.folder / "slo.yaml", made.slos / "staging.yaml")
    numbers = yaml.safe_load((suite.folder / "slo.yaml").read_text())
    (made.slos / "production.yaml").write_text(
        yaml.safe_dump({**numbers, "environment": "production"}, sort_keys=False)
    )
    return made


def test_a_signed_go_of_this_revision_passes(case, capsys):
    assert case.ask() == 0
    assert f"promoted: {SHA} was GO on staging" in capsys.readouterr().out


REFUSED = {
    "another revision of the suite": ({"git__revision": OTHER}, f"that of {OTHER}"),
    "an uncommitted suite": ({"git__dirty": True}, "not committed"),
    "a suite that is no checkout": ({"git__dirty": None}, "not committed"),
    "another revision judged": (
        {"judged_revision": f"main@sha1:{OTHER}"},
        f"judged main@sha1:{OTHER}",
    ),
    "an uncommitted platform": (
        {"judged_revision": f"main@sha1:{SHA}-dirty.1"},
        "judged main@sha1",
    ),
    "no revision judged": ({"judged_revision": None}, "no declared revision"),
    "another environment": ({"environment": "lab"}, "judged lab, asked for staging"),
    "other numbers": ({"slo__sha256": "0" * 64}, "other numbers than those of staging.yaml"),
    "a NO-GO": ({"verdict": "NO-GO", "blockers": ["alpha"]}, "verdict: NO-GO alpha"),
    "a demo sample": ({"profile": "demo"}, "partial: a demo sample"),
    "a proof sample": ({"profile": "prove"}, "partial: a prove sample"),
    "a partial run": ({"partial": True}, "not every gate"),
    "an interrupted run": ({"interrupted": True}, "not every gate"),
    "an incomplete run": ({"complete": False}, "not every gate"),
    "a required gate that failed": (
        {"gates__1__status": "fail"},
        "alpha: required, and its status is fail",
    ),
    "a required gate not applicable": ({"gates__1__status": "not-applicable"}, "alpha: required"),
    "a required gate missing": ({"gates": []}, "alpha: required, and missing"),
    "no time": ({"ended": "yesterday"}, "not a report of this suite"),
    "a time without its zone": ({"ended": "2026-11-24T00:00:00"}, "not a report of this suite"),
    "another shape": ({"gates": None}, "not a report of this suite"),
}


@pytest.mark.parametrize("change, said", REFUSED.values(), ids=REFUSED)
def test_what_is_signed_and_wrong_is_refused(case, capsys, change, said):
    case.change(**change)
    assert case.ask() == 1
    out = capsys.readouterr().out
    assert said in out
    assert all(line.startswith("refused: ") for line in out.splitlines())


def test_an_expired_report_is_refused(case, capsys):
    ended = datetime.now(UTC) - timedelta(hours=3)
    case.change(ended=ended.isoformat())
    assert case.ask("--hours", "4") == 0
    assert case.ask("--hours", "2") == 1
    assert "expired: ended 3.0 h ago, allowed are 2 h" in capsys.readouterr().out


def test_a_report_of_the_future_is_refused(case, capsys):
    case.change(ended=(datetime.now(UTC) + timedelta(hours=1)).isoformat())
    assert case.ask() == 1
    assert "still to come" in capsys.readouterr().out


def test_an_unsigned_report_is_refused(case, capsys):
    (case.folder / seal.SIGNATURE).unlink()
    assert case.ask() == 1
    assert "refused: SHA256SUMS.sig: missing: the report is not signed" in capsys.readouterr().out


def test_a_report_without_checksums_is_refused(case, capsys):
    (case.folder / seal.CHECKSUMS).unlink()
    assert case.ask() == 1
    assert "not sealed" in capsys.readouterr().out


def test_another_keys_signature_is_refused(case, tmp_path, capsys):
    case.sign(keys(tmp_path, "mallory")[0])
    assert case.ask() == 1
    assert "the signature does not fit" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["report.json", "report.html", "junit.xml"])
def test_a_changed_file_is_refused(case, capsys, name):
    file = case.folder / name
    file.write_text(file.read_text().replace("NO-GO", "GO") + " ")
    assert case.ask() == 1
    assert f"refused: {name}: changed or missing" in capsys.readouterr().out


def test_changed_checksums_are_refused(case, capsys):
    file = case.folder / "report.json"
    file.write_text(file.read_text() + " ")
    seal.seal(case.folder, [file], None)  # as whoever lacks the key can
    (case.folder / seal.SIGNATURE).write_text("bm90IGEgc2lnbmF0dXJl\n")
    assert case.ask() == 1
    assert "the signature does not fit" in capsys.readouterr().out


def test_a_report_that_the_signature_does_not_cover_is_refused(case, capsys):
    seal.seal(case.folder, [case.folder / "report.html"], case.private)
    assert case.ask() == 1
    assert "report.json: not among SHA256SUMS" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", "{", '"GO"'])
def test_an_unreadable_report_is_refused(case, capsys, text):
    (case.folder / "report.json").write_text(text)
    case.sign()
    assert case.ask() == 1
    assert "not a report of this suite" in capsys.readouterr().out


def test_the_gate_that_sees_the_revision_is_always_required(case, capsys):
    report = json.loads((case.folder / "report.json").read_text())
    case.change(gates=[g for g in report["gates"] if g["id"] != promotion.RUNS_IT])
    assert case.ask() == 1
    assert "flux-converged: required, and missing" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["none", "slos/staging.yaml"])
def test_without_a_public_key_nothing_is_judged(case, capsys, key):
    case.public = case.slos.parent / key
    assert case.ask() == 2
    assert "public key" in capsys.readouterr().err


def test_a_signing_key_is_no_public_key(case):
    case.public = case.private
    assert case.ask() == 2


@pytest.mark.parametrize(
    "options", [["--revision", "main"], ["--hours", "0"], ["--hours", "9999"], ["--hours", "x"]]
)
def test_a_question_that_makes_no_sense_is_none(case, options):
    with pytest.raises(SystemExit) as ended:
        case.ask(*options)
    assert ended.value.code == 2


def test_an_environment_without_numbers_is_none(case, capsys):
    assert case.ask("--environment", "nowhere") == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_it_is_a_command(tmp_path):
    words = [sys.executable, "-m", "conformance.promotion", str(tmp_path), "--revision", SHA]
    words += ["--environment", "staging", "--public-key", str(keys(tmp_path, "k")[1])]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (
        1,
        "refused: SHA256SUMS: No such file or directory: the report is not sealed\n",
    )

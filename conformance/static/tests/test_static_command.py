"""`python -m conformance.static`: its exit code, and what waivers may do."""

import sys

import pytest

from conformance.errors import SuiteError
from conformance.static import __main__ as command
from conformance.static import rules
from conformance.static.finding import Finding
from conformance.static.substitution import substitute, undefined


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["static", *arguments])
    return command.main()


def test_the_lab_passes(monkeypatch, capsys):
    assert run(monkeypatch, "lab", "--no-checkov") == 0
    assert "0 findings" in capsys.readouterr().out


def test_a_finding_is_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr(command, "findings", lambda environment: [Finding("r", "w", "m")])
    monkeypatch.setattr(command, "checkov", lambda environment: [])
    assert run(monkeypatch, "lab") == 1
    assert "lab: r: w: m" in capsys.readouterr().out


def test_what_cannot_be_judged_is_exit_code_2(monkeypatch, capsys):
    def refuse(name):
        raise SuiteError("no kustomize")

    monkeypatch.setattr(command, "load", refuse)
    assert run(monkeypatch) == 2
    assert "no kustomize" in capsys.readouterr().err


def test_a_waiver_that_waives_nothing_is_a_finding(lab, monkeypatch, tmp_path):
    path = tmp_path / "waivers.yaml"
    path.write_text(rules.WAIVERS.read_text() + "- {rule: probes, where: Pod a/b, reason: none}\n")
    monkeypatch.setattr(rules, "WAIVERS", path)
    assert [f.rule for f in rules.findings(lab)] == ["waiver-unused"]


def test_a_waiver_without_a_reason_waives_nothing(lab, monkeypatch, tmp_path):
    path = tmp_path / "waivers.yaml"
    path.write_text(rules.WAIVERS.read_text().split("  reason:")[0] + '  reason: ""\n')
    monkeypatch.setattr(rules, "WAIVERS", path)
    assert [f.rule for f in rules.findings(lab)] == ["probes"]


ITEM = {
    "kind": "ConfigMap",
    "metadata": {"name": "a"},
    "data": {"a": "${x} $${y} $1 $z", "n": "${n}"},
}


def test_substitution_is_flux_s():
    assert substitute(ITEM, {"x": "1", "n": "two"})["data"] == {"a": "1 $${y} $1 $z", "n": "two"}
    assert undefined(ITEM, {"x": "1"}) == {"n"}


@pytest.mark.parametrize("mark", ["labels", "annotations"])
def test_substitution_can_be_off(mark):
    off = {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}
    item = {**ITEM, "metadata": {"name": "a", mark: off}}
    assert substitute(item, {"x": "1"}) == item
    assert undefined(item, {}) == set()

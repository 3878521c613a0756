"""Whoever is woken finds a page for each alert and gate, and what it says to run exists."""

import importlib.util
import re
from pathlib import Path

import click
import pytest
import yaml

from conformance import catalogue, slo
from ragctl.main import main

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(FOLDER.rglob("*.md"))
SITUATIONS = [p for p in PAGES if p.parent.name in ("alerts", "gates")]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
FOLDERS = ("apps/", "cli/", "clusters/", "conformance/", "docs/", "images/", "platform/", "tools/")
# Made by upstream's charts and manifests, or by others outside of this repository.
UPSTREAM = {
    ("flux-system", "deployment/kustomize-controller"),
    ("istio-system", "deployment/istiod"),
    ("keda", "deployment/keda-operator"),
    ("kserve", "deployment/kserve-controller-manager"),
    ("kube-system", "daemonset/kube-router"),
}
COMING = {  # parts of apps/ that are not in this tree yet
    ("rag-ingestion", "deployment/events"),
}
ELSEWHERE = {"kube-system", "flux-system", "gpu-operator"}


def names(folder):
    return {page.stem for page in (FOLDER / folder).glob("*.md")}


def commands(page):
    return "\n".join(re.findall(r"^```(?:sh)?\n(.*?)^```", page.read_text(), re.M | re.S))


def manifests():
    for folder in ("apps", "platform"):
        for file in (ROOT / folder).rglob("*.yaml"):
            try:
                yield from (d for d in yaml.safe_load_all(file.read_text()) if isinstance(d, dict))
            except yaml.YAMLError:
                continue


def test_every_alert_has_a_page_and_every_page_an_alert():
    rules = (ROOT / "platform").rglob("rules/*.yaml")
    alerts = {name for f in rules for name in re.findall(r"- alert: (\w+)", f.read_text())}
    assert names("alerts") == alerts


def test_every_gate_has_a_page_and_every_page_a_gate():
    gates = set(slo.load(slo.FOLDER / "production.yaml").gates) | set(catalogue.discover())
    assert names("gates") == gates


@pytest.mark.parametrize("page", SITUATIONS, ids=lambda p: p.stem)
def test_a_page_says_what_it_means_how_to_see_it_and_how_to_fix_it(page):
    head, *sections = re.split(r"^## (.*)$", page.read_text(), flags=re.M)
    assert re.match(rf"# {page.stem}: \S.*\n\n\S", head)
    assert sections[::2] == ["See it", "Fix it"]
    assert commands(page).strip()
    assert sections[3].strip().startswith("- ")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_and_files_are_there(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert "://" in link or (page.parent / link).exists(), link
    if page.parent.name == "gates":  # copied beside a report, where a relative link leads nowhere
        assert not re.findall(r"\]\((?!https)", text)
    for path in re.findall(r"`([^`\s*<]+)`", text):
        if path.startswith(FOLDERS) and not re.search("NAME|ENV|OVERLAY", path):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_our_own_commands_exist(page):
    text = page.read_text()
    for target in re.findall(r"(?:^|`)(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text, re.M):
        assert target in TARGETS, target
    for module in re.findall(r"python3? -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    for words in re.findall(r"(?:^|`|/)ragctl ([a-z][a-z ]*[a-z])", text, re.M):
        command = main
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            assert word in command.commands, words
            command = command.commands[word]
    for gate in re.findall(r"--gate ([a-z0-9-]+)", text):
        assert gate in names("gates"), gate


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_what_kubectl_is_asked_for_is_in_a_manifest(page):
    every = list(manifests())
    kinds = {(d.get("kind", "").lower(), d.get("metadata", {}).get("name")) for d in every}
    namespaces = {name for kind, name in kinds if kind == "namespace"} | ELSEWHERE
    for line in re.findall(r"kubectl .*", commands(page)):
        named = re.search(r"(?:-n|--namespace) ([a-z0-9-]+)", line)
        if not named:
            continue
        assert named[1] in namespaces, line
        wanted = re.search(r"\b(deployment|statefulset|daemonset|cronjob)[/ ]([a-z0-9-]+)", line)
        if wanted and (named[1], f"{wanted[1]}/{wanted[2]}") not in UPSTREAM | COMING:
            assert wanted.groups() in kinds, line

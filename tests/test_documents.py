"""The documents lead somewhere: links exist, the plan names every gate, the systems say where they are."""

import re
from pathlib import Path

import pytest

from conformance import slo

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *ROOT.glob("*/README.md")]
PLAN = (ROOT / "docs/six-weeks.md").read_text()
SYSTEMS = (ROOT / "docs/systems.md").read_text()
WORDS = {"real", "validated", "code", "replaced", "left out"}


def headings(page):
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-") for line in lines}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_something(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not heading or heading in headings(target), link


def test_every_line_of_the_plan_has_its_manifest_and_its_gate():
    lines = re.findall(r"^- \[ \] (.*)$", PLAN, re.M)
    assert len(lines) >= 18 + 3
    assert len([line for line in lines if line.startswith("Exit: ")]) == 3
    for line in lines:
        links = re.findall(r"\]\(([^)]+)\)", line)
        gates = [link for link in links if link.startswith("runbooks/gates/")]
        assert gates, line
        assert set(links) - set(gates), line


def test_the_plan_has_every_gate_in_its_phase():
    phases = dict(zip(("foundation", "data", "intelligence"), PLAN.split("## ")[1:], strict=True))
    for gate in slo.load(slo.FOLDER / "production.yaml").gates.values():
        assert f"[{gate.id}](runbooks/gates/{gate.id}.md)" in phases[gate.phase], gate.id


def rows():
    lines = [line for line in SYSTEMS.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [row for row in cells if row[0] not in ("system", "---")]


def test_every_system_says_where_it_is_and_how_far_it_was_tried():
    for name, where, tried, how in rows():
        assert tried in WORDS, name
        assert how, name
        assert tried == "left out" or "](" in where, name


# As the guide behind this blueprint names them.
NAMED = [
    "Kubernetes",
    "Istio",
    "Vault",
    "KServe",
    "KEDA",
    "Prometheus",
    "Grafana",
    "Qdrant",
    "pgvector",
    "Milvus",
    "Weaviate",
    "Chroma",
    "FAISS",
    "Kafka",
    "RabbitMQ",
    "BGE-M3",
    "vLLM",
    "TGI",
    "Llama-3.3",
    "GPT-4o",
    "Gemini",
    "Kong",
    "Envoy",
    "Redis",
    "Elasticsearch",
    "Kibana",
    "Trivy",
    "FastAPI",
    "Helm",
    "Velero",
    "S3",
    "Cilium",
    "Fluent",
    "Sentence-Transformers",
    "Cohere",
    "BM25",
    "Kube-bench",
    "A100",
    "NetworkPolicy",
]


@pytest.mark.parametrize("name", NAMED)
def test_every_system_that_was_named_is_in_the_table(name):
    assert any(name.lower() in row[0].lower() for row in rows())

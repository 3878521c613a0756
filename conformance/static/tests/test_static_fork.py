"""A fork rehearsed: a made-up company changes the vars and nothing else, and every mistake is named."""

import difflib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.static import cluster_vars, environment

CLOUD = ("staging", "production")
# A hospital on Azure, with CloudNativePG, quantised weights and its own mirror.
COMPANY = {
    "repository": "ssh://git@git.klinik.example/platform/rag",
    "image_registry": "harbor.klinik.example/rag",
    "oci_mirror": "harbor.klinik.example/mirror/",
    "provider": "azure",
    "region": "germanywestcentral",
    "cloud_account": "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "pod_cidr": "10.12.0.0/14",
    "token_audience": "https://germanywestcentral.oic.prod-aks.azure.com/klinik/",
    "domain": "rag.klinik.example",
    "kms_key": "vault-unseal",
    "kms_ring": "klinik-rag",
    "vault_identity": "6fa459ea-ee8a-3ca4-894e-db77e160355e",
    "models_identity": "7fa459ea-ee8a-3ca4-894e-db77e160355e",
    "backup_identity": "8fa459ea-ee8a-3ca4-894e-db77e160355e",
    "object_store_host": "s3.klinik.example",
    "documents_bucket": "klinik-documents",
    "backup_bucket": "klinik-backups",
    "model_storage_class": "azurefile-premium",
    "vector_store": "cloudnativepg",
    "llm": "vllm-awq",
    "llm_node_type": "Standard_NC96ads_A100_v4",
    "embedding_node_type": "Standard_NC24ads_A100_v4",
}
WRONG = {
    "environment": "Staging!",
    "overlay": "lab",
    "oci_mirror": "https://mirror",
    "pod_cidr": "10.0.0.0",
}
FOLDERS = ("apps", "clusters", "conformance", "platform", "docs")


def fork(folder: Path) -> Path:
    """A copy of what a fork's checks read."""
    ignored = shutil.ignore_patterns("__pycache__", "corpora", "judge")
    for name in FOLDERS:
        shutil.copytree(environment.ROOT / name, folder / name, ignore=ignored)
    (folder / "requirements").mkdir()
    shutil.copy(environment.ROOT / "requirements" / "checkov.txt", folder / "requirements")
    return folder


def change(folder: Path, name: str, values: dict[str, str]) -> list[str]:
    """Edit a vars file as a person would, line by line; the changed lines."""
    file = folder / "clusters" / name / "vars.yaml"
    before = file.read_text().splitlines()
    known = {line.split(":")[0].strip() for line in before}
    assert set(values) <= known
    after = []
    for line in before:
        key = line.split(":")[0].strip()
        after.append(f"  {key}: {json.dumps(values[key])}" if key in values else line)
    file.write_text("\n".join(after) + "\n")
    return [x for x in difflib.unified_diff(before, after, n=0, lineterm="") if x[:1] in "+-"]


def static(folder: Path, *names: str) -> tuple[int, str]:
    """Exit code and words of the static checks in the fork."""
    command = [sys.executable, "-m", "conformance.static", "--no-checkov", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_a_fork_is_its_vars(tmp_path):
    folder = fork(tmp_path / "fork")
    lines = [line for name in CLOUD for line in change(folder, name, COMPANY)]
    changed = [line for line in lines if line[:3] not in ("---", "+++")]
    assert len([line for line in changed if line[0] == "+"]) < 60
    code, said = static(folder, *CLOUD)
    assert code == 0, said
    assert said.count(" 0 findings") == len(CLOUD)


def test_a_wrong_value_stops_a_fork(tmp_path):
    folder = fork(tmp_path / "fork")
    change(folder, "staging", {"provider": "on-prem"})
    code, said = static(folder, "staging")
    assert code == 1
    assert "provider: 'on-prem', allowed: one of aws, azure, gcp" in said


@pytest.mark.parametrize("variable", cluster_vars.schema()["properties"])
def test_a_wrong_value_is_named_with_what_is_allowed(variable):
    good = dict(environment.load("staging").variables)
    assert not list(cluster_vars.wrong(good))
    form = cluster_vars.schema()["properties"][variable]["form"]
    said = dict(cluster_vars.wrong({**good, variable: WRONG.get(variable, "? no such form ?")}))
    assert set(said) == {variable}
    assert form in said[variable]
    del good[variable]
    if variable != "overlay":
        assert form in dict(cluster_vars.wrong(good))[variable]


def test_a_variable_that_nobody_knows_is_named():
    said = dict(cluster_vars.wrong({**environment.load("staging").variables, "regoin": "x"}))
    assert "is no variable" in said["regoin"]


def test_every_variable_is_used_and_every_choice_has_its_folder():
    files = [
        p for top in ("apps", "platform", "clusters") for p in (environment.ROOT / top).rglob("*")
    ]
    text = "\n".join(
        p.read_text()
        for p in files
        if p.is_file() and p.suffix != ".json" and p.name != "vars.yaml"
    )
    for name in cluster_vars.schema()["properties"]:
        assert f"${{{name}}}" in text or f"data.{name}}}" in text, f"{name} changes nothing"
    for names in cluster_vars.alternatives().values():
        for name in names:
            assert list(environment.ROOT.glob(f"*/*/cloud/{name}/kustomization.yaml")), name


def alternatives() -> list[dict[str, str]]:
    """Every choice once, the others as staging has them."""
    own = environment.load("staging").variables
    return [
        {k: v} for k, values in cluster_vars.alternatives().items() for v in values if v != own[k]
    ]


@pytest.mark.parametrize("chosen", alternatives(), ids=lambda c: "-".join(c.values()))
def test_every_alternative_keeps_every_rule(tmp_path, chosen):
    folder = fork(tmp_path / "fork")
    change(folder, "staging", chosen)
    code, said = static(folder, "staging")
    assert code == 0, said

"""The command's words and exit codes."""

import json

import pytest
from click.testing import CliRunner
from rich.console import Console

from rag_ingestion import cli, sync
from rag_ingestion.errors import Reason, SetAside
from rag_ingestion.report import Progress, Report


@pytest.fixture
def invoke(settings, memory, monkeypatch):
    for name, value in settings.model_dump(exclude_none=True).items():
        monkeypatch.setenv(name.upper(), str(value))
    monkeypatch.setattr(sync, "open_store", lambda url, file: memory)
    return lambda *arguments: CliRunner().invoke(cli.main, list(arguments))


def test_a_good_run(invoke, folder, tmp_path):
    (folder / "a.md").write_text("text")
    (folder / "b.[x].md").write_text("")
    summary = tmp_path / "out" / "summary.json"
    result = invoke(str(folder), "--tenant", "bank", "--json", str(summary))
    assert result.exit_code == 0, result.output
    assert "2/2 documents" in result.output
    assert "1 added, 0 changed" in result.output
    assert "1 set aside" in result.output
    data = json.loads(summary.read_text())
    assert data["documents_per_second"] > 0
    assert {k: data[k] for k in ("tenant", "added", "chunks", "deleted")} == {
        "tenant": "bank",
        "added": 1,
        "chunks": 1,
        "deleted": 0,
    }
    assert data["set_aside"] == [
        {
            "uri": (folder / "b.[x].md").as_uri(),
            "reason": "empty",
            "detail": "the file has no bytes",
        }
    ]


def test_could_not_complete(invoke, tmp_path):
    result = invoke(str(tmp_path / "none"), "--tenant", "bank")
    assert result.exit_code == 1
    assert "no such directory" in result.output


def test_another_run_is_ahead(invoke, folder, memory):
    memory.writers = 1
    result = invoke(str(folder), "--tenant", "bank")
    assert result.exit_code == cli.BUSY == 3
    assert "rag-ingest: tenant 'bank': another writes its index" in result.output


def test_empty_source(invoke, folder):
    (folder / "a.md").write_text("text")
    assert invoke(str(folder), "--tenant", "bank").exit_code == 0
    (folder / "a.md").unlink()
    assert invoke(str(folder), "--tenant", "bank").exit_code == 1
    assert invoke(str(folder), "--tenant", "bank", "--allow-empty").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument"),
        (("source",), "--tenant"),
        (("source", "--tenant", "Bad Name"), "lower-case letters"),
    ],
)
def test_usage(invoke, arguments, message):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_missing_settings(invoke, folder, monkeypatch):
    monkeypatch.delenv("EMBEDDING_URL")
    monkeypatch.setenv("CHUNK_TOKENS", "3")
    result = invoke(str(folder), "--tenant", "bank")
    assert result.exit_code == 2
    assert "EMBEDDING_URL: Field required" in result.output
    assert "CHUNK_TOKENS" in result.output


def test_a_bar_on_a_terminal(invoke, folder, settings, memory, monkeypatch):
    (folder / "a.md").write_text("text")
    console = Console(force_terminal=True, width=100, record=True)
    report = cli._run(console, str(folder), "bank", settings, allow_empty=False)
    assert report.added == 1
    cli.show(console, report)
    assert "1 added" in console.export_text()


def test_progress_lines_are_few():
    console = Console(force_terminal=False, record=True, width=80)
    line = cli._plain(console)
    for done in range(1, 251):
        line(Progress(done, 250, "k"))
    assert console.export_text().splitlines() == [
        "100/250 documents",
        "200/250 documents",
        "250/250 documents",
    ]


def test_no_rate_without_time():
    report = Report("t", "s", set_aside=[SetAside("u", Reason.EMPTY, "d")])
    assert report.documents_per_second == 0

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time

import psutil
import psycopg
import pytest
from click.testing import CliRunner

from ragctl import postgres, schedule
from ragctl.errors import RagctlError
from ragctl.keys import Keys
from ragctl.layout import Layout
from ragctl.lifecycle import exclusive
from ragctl.main import main
from ragctl.ports import HOST, is_free, pick
from ragctl.programs import Addresses, Program, data_programs
from ragctl.readiness import is_ready, wait
from ragctl.supervision import Supervisor, processes, write_config
from ragctl.tenants import Tenant, tenants


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "state")
    layout.make()
    yield layout
    Supervisor(layout).shutdown()
    assert processes(layout) == []


def test_the_state_folder_is_private(layout):
    for folder in (layout.root, layout.secrets, layout.run):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_sockets_move_where_paths_get_too_long(tmp_path):
    deep = Layout(tmp_path / ("d" * 90))
    assert not deep.run.is_relative_to(deep.root)
    assert len(os.fsencode(deep.run / "postgres" / ".s.PGSQL.5432")) < 107


def test_ports_are_kept_while_they_are_free(tmp_path):
    file = tmp_path / "ports.json"
    first = pick(["a", "b"], file)
    assert len(set(first.values())) == 2
    assert pick(["a", "b"], file) == first
    with socket.socket() as sock:
        sock.bind((HOST, first["a"]))
        sock.listen()
        assert not is_free(first["a"])
        assert pick(["a", "b"], file)["a"] != first["a"]


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"a": "x"}'])
def test_a_broken_ports_file_is_replaced(tmp_path, content):
    file = tmp_path / "ports.json"
    file.write_text(content)
    assert pick(["a"], file) == json.loads(file.read_text())


def test_keys_are_made_once_and_private(tmp_path):
    keys = Keys(tmp_path)
    known = [Tenant("acme", 60, 10, api_keys=2)]
    first = keys.api_key("acme").read_text()
    assert keys.api_key("acme").read_text() == first
    registry = json.loads(keys.key_registry(known).read_text())
    assert [entry["tenant"] for entry in registry.values()] == ["acme", "acme"]
    assert first not in keys.key_registry(known).read_text()
    keys.jwks(), keys.tenant_token_keys(), keys.credentials("rag_reader")
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_published_key_set_has_no_private_part(tmp_path):
    (key,) = json.loads(Keys(tmp_path).jwks().read_text())["keys"]
    assert "d" not in key


def test_tenants_have_limits():
    known = {tenant.name: tenant for tenant in tenants()}
    assert known["conformance-limited"].api_keys == 2
    assert known["demo"].limit.requests_per_minute > 0


def test_a_sync_is_of_every_tenant_with_documents(tmp_path):
    for name in ("acme", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "stray.md").write_text("not a tenant's")
    (tmp_path / "acme" / "a.md").write_text("text")
    seen = []
    schedule.sync(tmp_path, seen.append)
    assert [command[1:] for command in seen] == [
        ["-m", "rag_ingestion", str(tmp_path / "acme"), "--tenant", "acme"]
    ]


def test_the_schedule_ends_with_the_sync_that_is_under_way(tmp_path):
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "a.md").write_text("text")
    slow = "import ragctl.schedule as s, subprocess, sys\ns.commands = lambda f: [['sleep', '60']]\ns.main()"
    process = subprocess.Popen([sys.executable, "-c", slow, str(tmp_path), "1"])
    until(lambda: psutil.Process(process.pid).children(), 20)
    (sync,) = psutil.Process(process.pid).children()
    process.terminate()
    assert process.wait(10) == 0
    assert not sync.is_running()


def test_one_ragctl_at_a_time(layout):
    with (
        exclusive(layout),
        pytest.raises(RagctlError, match="another ragctl"),
        exclusive(layout),
    ):
        pass


def start(layout, *programs):
    write_config(programs, layout)
    supervisor = Supervisor(layout)
    supervisor.launch()
    for program in programs:
        supervisor.start(program.name)
    return supervisor


def sleeper(name="sleeper", code="import time; time.sleep(600)"):
    return Program(name, (sys.executable, "-c", code), {"A": "50, 100%"}, "/nowhere")


def test_a_value_that_supervisord_cannot_carry_is_refused(layout):
    with pytest.raises(RagctlError, match="double quote"):
        write_config([Program("p", ("x",), {"A": 'quo"te'})], layout)


def test_a_supervisord_that_does_not_start_says_why(layout):
    layout.supervisor_config.write_text("[nonsense")
    with pytest.raises(RagctlError, match="(?s)did not start: .*nonsense"):
        Supervisor(layout).launch()


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_comes_back_and_shutdown_leaves_nothing(layout):
    supervisor = start(layout, sleeper())
    until(lambda: supervisor.states()["sleeper"][0] == "RUNNING")
    (child,) = [p for p in processes(layout) if "supervisor.supervisord" not in p.cmdline()]
    assert child.environ()["A"] == "50, 100%"
    child.kill()
    until(
        lambda: child.pid not in {p.pid for p in processes(layout)} and len(processes(layout)) == 2
    )
    supervisor.shutdown()
    assert processes(layout) == []
    assert not supervisor.is_running()


def test_what_a_killed_supervisord_left_behind_is_ended(layout):
    supervisor = start(layout, sleeper())
    until(lambda: len(processes(layout)) == 2)
    (parent,) = [p for p in processes(layout) if "supervisor.supervisord" in p.cmdline()]
    os.kill(parent.pid, signal.SIGKILL)
    psutil.wait_procs([parent], timeout=5)
    supervisor.shutdown()
    assert processes(layout) == []


def test_waiting_ends_when_the_program_failed(tmp_path):
    program = Program("p", (), ready=str(tmp_path / "no.sock"))
    assert not wait(program, seconds=60, on_wait=lambda _: None, failed=lambda: True)


def test_waiting_ends_when_the_time_is_up(tmp_path):
    waited = []
    program = Program("p", (), ready="http://127.0.0.1:9/readyz")
    assert not wait(program, seconds=1, on_wait=waited.append, failed=lambda: False)
    assert waited


def test_readiness_over_each_kind_of_address(tmp_path):
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as unix, socket.socket() as tcp:
        unix.bind(str(path))
        unix.listen()
        tcp.bind((HOST, 0))
        tcp.listen()
        assert is_ready(Program("p", (), ready=str(path)))
        assert is_ready(Program("p", (), ready=f"tcp:{HOST}:{tcp.getsockname()[1]}"))
    assert not is_ready(Program("p", (), ready=f"unix:{tmp_path}/none.sock/readyz"))


def test_postgres_starts_keeps_its_data_and_lets_only_its_owner_in(layout):
    program = data_programs(Addresses(layout, {}))[0]
    sockets = Addresses(layout, {}).postgres_sockets
    for expected in (None, (1,)):
        supervisor = start(layout, program)
        until(lambda: is_ready(program), 30)
        until(lambda: _connects(sockets))
        with psycopg.connect(postgres.dsn(sockets, "postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT to_regclass('kept')").fetchone()[0]
            assert (found is None) == (expected is None)
            connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
            assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(postgres.dsn(sockets, "postgres", user="rag_reader"))
        supervisor.shutdown()


def _connects(sockets):
    try:
        psycopg.connect(postgres.dsn(sockets, "postgres")).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("command", [["status"], ["ask", "why?"], ["ingest", "x"], ["gates"]])
def test_commands_say_that_the_platform_is_down(command, tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_STATE_DIR", str(tmp_path / "none"))
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert "up" in result.output


def test_an_unknown_tenant_is_a_usage_error():
    result = CliRunner().invoke(main, ["ask", "why?", "--tenant", "nobody"])
    assert result.exit_code == 2
    assert "demo" in result.output


def test_an_expected_failure_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("ragctl.main.start", lambda layout: (tmp_path / "missing").read_text())
    result = CliRunner().invoke(main, ["up"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: FileNotFoundError")


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RagctlError, match="somebody else"):
        Layout(tmp_path / "state").make()


def test_down_without_up_is_fine(tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_STATE_DIR", str(tmp_path / "none"))
    assert CliRunner().invoke(main, ["down"]).exit_code == 0

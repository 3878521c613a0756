"""Smaller parts: progress, time limits, deferred interrupts, the plugin at rest, parameters."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from conformance import catalogue, measure, progress, slo
from conformance.errors import GateTimeoutError
from conformance.gate import Status

REPOSITORY = Path(__file__).parents[2]


def test_bars_on_a_terminal():
    text = io.StringIO()
    shown = progress.Live(Console(file=text, force_terminal=True, width=100))
    shown.step(1, 2, "before any gate")
    shown.start("alpha")
    shown.step(1, 2, "queries")
    shown.bars.refresh()
    shown.finish("alpha: x 0.9 [bold]", Status.PASS)
    shown.close()
    assert "alpha queries" in text.getvalue()
    assert "alpha: x 0.9 [bold]" in text.getvalue()


def test_lines_elsewhere(capsys):
    shown = progress.make()
    assert isinstance(shown, progress.Lines)
    shown.start("alpha")
    shown.step(1, 2)
    shown.finish("alpha: x 0.1", Status.FAIL)
    shown.close()
    assert capsys.readouterr().err == "FAIL  alpha: x 0.1\n"


def test_a_time_limit_cuts_and_restores():
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(GateTimeoutError, match=r"0\.05 s"), measure.time_limit(0.05):
        time.sleep(5)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupts_wait_for_the_end_of_the_block(number):
    steps = []
    with pytest.raises(KeyboardInterrupt), measure.interrupts_deferred():
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        steps.append("mended")
    assert steps == ["mended"]
    with measure.interrupts_deferred():
        pass


def test_the_plugin_imports_nothing_while_it_sleeps(tmp_path):
    (tmp_path / "test_x.py").write_text(
        "import sys\n"
        "def test_x(pytestconfig):\n"
        "    assert not pytestconfig.pluginmanager.has_plugin('rag-conformance-run')\n"
        "    assert 'conformance.run' not in sys.modules\n"
        "    assert 'scipy' not in sys.modules\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_plain_pytest_runs_the_gates_too(suite, green):
    suite.gate("alpha", green)
    options = [
        f"--conformance-{o.removeprefix('--')}" if o.startswith("--") else o
        for o in suite.arguments()
    ]
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(suite.folder)]
    run = lambda *more: subprocess.run(  # noqa: E731
        [*command, "--conformance", *options, *more], capture_output=True, text=True, timeout=120
    )
    assert run().returncode == 0
    assert suite.report["verdict"] == "GO"
    parallel = run("-n", "2")
    assert parallel.returncode == 2
    assert "one at a time" in parallel.stdout + parallel.stderr


def test_every_parameter_that_a_gate_asks_for_is_in_the_files():
    pattern = re.compile(r"\.parameter\(\s*\"(\w+)\"")
    entries = catalogue.discover()
    for environment in ("local", "production"):
        loaded = slo.load(slo.FOLDER / f"{environment}.yaml")
        judged = [
            entries[i]
            for i, gate in loaded.gates.items()
            if i in entries and not gate.not_applicable
        ]
        shared = [f for e in judged for f in e.file.parent.glob("_*.py")]
        files = {*(e.file for e in judged), *shared}
        wanted = {name for file in files for name in pattern.findall(file.read_text())}
        tables = [loaded.parameters, *loaded.samples.values()]
        tables += [gate.parameters for gate in loaded.gates.values()]
        for profile in ("full", "demo", "prove"):
            known = {k for t in tables for p in (profile, "all") for k in t.get(p, {})}
            assert wanted <= known, f"{environment}, {profile}"

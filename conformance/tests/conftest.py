"""A small world for the suite's own tests: fake gates, an SLO file, and a target that answers."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PROFILES = {
    "full": {},
    "demo": {"bound": "point", "n_min_share": 0.1},
    "prove": {"bound": "point", "n_min_share": 0.1},
}


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def describe(url, **more):
    names = ("gateway_url", "retrieval_url", "embedding_url", "guard_url", "vector_db_url")
    return {"environment": "local", **dict.fromkeys(names, url), **more}


def _heed_interrupts():
    """A job of a shell's background is started with Ctrl-C ignored, and so would its children be."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Suite:
    """A catalogue of fake gates with its SLO file and target."""

    folder: Path
    target: dict
    gates: dict = field(default_factory=dict)
    profiles: dict = field(default_factory=lambda: dict(PROFILES))
    top: dict = field(default_factory=dict)

    def gate(self, gate_id, body, *, phase="data", slo=None, declare=None):
        """A gate's module from `body` (its `measure`, faults as FAULTS) and its SLO entry."""
        file = self.folder / "gates" / phase / f"{gate_id.replace('-', '_')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        end = declare or (
            f"GATE = Gate({gate_id!r}, Phase({phase!r}), {gate_id.title()!r}, 'A promise.',"
            " measure, globals().get('FAULTS', ()))"
        )
        head = "import contextlib, os, time\nfrom pathlib import Path\nfrom conformance.gate import *\n"
        file.write_text(head + textwrap.dedent(body) + "\n" + end + "\n")
        if slo is not False:
            entry = slo or {"required": True, "metrics": {"x": {"min": 0.85, "n_min": 10}}}
            self.gates.setdefault(phase, {})[gate_id] = entry
        return file

    def arguments(self, *options):
        (self.folder / "gates").mkdir(exist_ok=True)
        (self.folder / "target.json").write_text(json.dumps(self.target))
        slo = {"environment": "local", "profiles": self.profiles, "gates": self.gates, **self.top}
        (self.folder / "slo.yaml").write_text(yaml.safe_dump(slo, sort_keys=False))
        return [
            *("--target", str(self.folder / "target.json")),
            *("--slo", str(self.folder / "slo.yaml")),
            *("--gates-root", str(self.folder / "gates")),
            *("--report", str(self.report_folder)),
            *options,
        ]

    @property
    def report_folder(self):
        return self.folder / "report"

    @property
    def report(self):
        return json.loads((self.report_folder / "report.json").read_text())

    def result(self, gate_id):
        return next(g for g in self.report["gates"] if g["id"] == gate_id)

    def run(self, *options):
        """The suite inside this process; its exit code."""
        from conformance.__main__ import main

        return main(self.arguments(*options))

    def spawn(self, *options):
        """The suite as a real process."""
        return subprocess.Popen(
            [sys.executable, "-m", "conformance", *self.arguments(*options)],
            cwd=REPOSITORY,
            env={**os.environ, "COVERAGE_PROCESS_START": ""},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_heed_interrupts,
        )


@pytest.fixture
def suite(tmp_path, endpoint):
    return Suite(tmp_path, describe(endpoint))


GREEN = """
def measure(ctx):
    return Observation({"x": Measurement(0.9, 100, 0.87, 0.93)})
"""


@pytest.fixture
def green():
    return GREEN

"""`ragctl demo`: documents in, cited answers out, and a verdict with numbers."""

import time
from importlib.resources import as_file, files

import yaml

from ragctl.ask import ask, show
from ragctl.console import done, out, step
from ragctl.errors import RagctlError
from ragctl.gates import gates
from ragctl.ingest import ingest
from ragctl.layout import Layout
from ragctl.lifecycle import AlreadyRunningError, up

TENANT = "demo"


def demo(layout: Layout, report: str) -> int:
    """Run the whole pipeline on the sample documents; the gates' exit code."""
    begin = time.monotonic()
    step("starting the five layers, the guard and the gateway")
    try:
        up(layout)
    except AlreadyRunningError:
        done("the platform is already running")
    sample = files("ragctl").joinpath("sample")
    step("ingesting the sample documents (one of them is broken on purpose)")
    with as_file(sample.joinpath("documents")) as folder:
        if code := ingest(layout, str(folder), TENANT):
            raise RagctlError(f"the ingestion failed with exit code {code}; its last lines say why")
    step("asking three questions: an answerable one, an unanswerable one, an injection")
    for question in yaml.safe_load(sample.joinpath("questions.yaml").read_text())["demo"]:
        show(question, ask(layout, question, TENANT))
    done(f"answers after {time.monotonic() - begin:.0f} s")
    step("running the gates on a demo sample (`ragctl gates` takes the full one)")
    code = gates(layout, "--profile", "demo", "--report", report)
    out.print('\nThe platform is still up: try `ragctl ask "…"`; `make local-down` stops it.')
    return code

"""The suite as a pytest plugin: one gate, one test item; asleep unless `--conformance` wakes it.

Every pytest run in this environment loads this module, so it imports nothing until it is awake.
"""

from typing import Any

import pytest

NAME = "rag-conformance-run"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare `--conformance` and its settings."""
    from conformance import options

    group = parser.getgroup("conformance", "judging a running RAG platform")
    group.addoption("--conformance", action="store_true", help="run the conformance suite's gates")
    options.declare(group.addoption, "conformance-")


def pytest_configure(config: pytest.Config) -> None:
    """Wake up: read the numbers, find the gates, reach the target; exit 2 when that fails."""
    if not config.getoption("conformance"):
        return
    from conformance import items, options, progress, run
    from conformance.errors import SuiteError

    if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
        pytest.exit("conformance: gates are measured one at a time: run without -n", returncode=2)
    settings = options.settings_of(config.option)
    shown = progress.make()
    try:
        prepared = run.prepare(settings, shown)
    except SuiteError as error:
        pytest.exit(f"conformance: {error}", returncode=2)
    config.pluginmanager.register(items.RunPlugin(prepared), NAME)


def run_of(config: pytest.Config) -> Any:
    """The run of an awake plugin, or None."""
    plugin = config.pluginmanager.get_plugin(NAME)
    return plugin.run if plugin else None

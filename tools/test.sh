#!/usr/bin/env bash
# Every test that needs neither a cluster nor servers (`make test-servers`), with the coverage of the
# test processes; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -f .coverage .coverage.*
.venv/bin/pytest -m "not servers" -n "${TEST_WORKERS:-2}" --dist loadfile --cov --cov-report= "$@"
.venv/bin/coverage report --skip-covered --fail-under="${COVERAGE_MIN:-90}"

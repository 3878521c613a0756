#!/usr/bin/env bash
# Every test that needs no cluster, with the coverage of the test processes; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -f .coverage .coverage.*
.venv/bin/pytest -n "${TEST_WORKERS:-2}" --dist loadfile --cov --cov-report= "$@"
.venv/bin/coverage report --skip-covered --fail-under="${COVERAGE_MIN:-90}"

#!/usr/bin/env bash
# Every test that needs no cluster, with coverage over all processes; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
rm -f .coverage .coverage.*
.venv/bin/pytest -n "${TEST_WORKERS:-2}" --dist loadfile --cov --cov-report= "$@"
.venv/bin/coverage combine -q --keep 2>/dev/null || true
.venv/bin/coverage report --skip-covered --fail-under="${COVERAGE_MIN:-90}"

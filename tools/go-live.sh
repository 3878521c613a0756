#!/usr/bin/env bash
# Judges a real cluster at this commit and signs the report; the exit code is the suite's. `make go-live` runs it.
#   ENVIRONMENT      whose numbers (staging)
#   KUBECONFIG_FILE  of an administrator; without it the job's own identity is exchanged for one:
#   GO_LIVE_SERVER, GO_LIVE_CA, GO_LIVE_AUDIENCE   the API server, its authority (PEM), its issuer's audience
#   REPORT_SIGNING_KEY_FILE, or REPORT_SIGNING_KEY where CI has nothing but variables
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -n "${REPORT_SIGNING_KEY:-}" ]; then
  REPORT_SIGNING_KEY_FILE=$work/signing-key
  printf '%s\n' "$REPORT_SIGNING_KEY" > "$REPORT_SIGNING_KEY_FILE"
fi
unset REPORT_SIGNING_KEY # no gate inherits it
: "${REPORT_SIGNING_KEY_FILE:?the Ed25519 key that signs the report, see docs/promotion.md}"

if [ -z "${KUBECONFIG_FILE:-}" ]; then
  printf '%s\n' "${GO_LIVE_CA:?or KUBECONFIG_FILE}" > "$work/ca.crt"
  .venv/bin/python -m conformance.cluster.oidc "$work/kubeconfig" --server "${GO_LIVE_SERVER:?}" \
    --ca "$work/ca.crt" --audience "${GO_LIVE_AUDIENCE:?}"
  KUBECONFIG_FILE=$work/kubeconfig
fi

commit=$(git -c safe.directory="$PWD" rev-parse HEAD)
code=0
.venv/bin/ragctl cluster --kubeconfig "$KUBECONFIG_FILE" --environment "${ENVIRONMENT:-staging}" \
  --revision "${BRANCH:-main}@sha1:$commit" gates --report report --signing-key "$REPORT_SIGNING_KEY_FILE" || code=$?
.venv/bin/python -m conformance.report.summary report >> "${GITHUB_STEP_SUMMARY:-/dev/stdout}" || true
exit "$code"

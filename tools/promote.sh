#!/usr/bin/env bash
# May REVISION go to production? Fetches its go-live report where none is given and asks. `make promote` runs it.
#   REVISION         the commit; BASE: what production runs now (origin/production)
#   REPORT           a report's folder; without it that of the last go-live run of the commit, by gh
#   PUBLIC_KEY, or REPORT_PUBLIC_KEY with the key itself; HOURS: how old the report may be (72)
set -euo pipefail
cd "$(dirname "$0")/.."
: "${REVISION:?the commit to promote}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git() { command git -c safe.directory="$PWD" "$@"; }

# Otherwise the merge makes a tree that nobody has judged.
if ! git merge-base --is-ancestor "${BASE:-origin/production}" "$REVISION"; then
  echo "refused: $REVISION does not contain ${BASE:-origin/production}: bring it up to date, and judge that"
  exit 1
fi
if [ -z "${REPORT:-}" ]; then
  run=$(gh run list --workflow go-live.yaml --commit "$REVISION" --status completed --limit 1 --json databaseId --jq '.[].databaseId')
  [ -n "$run" ] || { echo "refused: no go-live run of $REVISION"; exit 1; }
  gh run download "$run" --name go-live-report --dir "$work/report"
  REPORT=$work/report
fi
if [ -z "${PUBLIC_KEY:-}" ]; then
  printf '%s\n' "${REPORT_PUBLIC_KEY:?or PUBLIC_KEY, a file}" > "$work/public-key"
  PUBLIC_KEY=$work/public-key
fi
.venv/bin/python -m conformance.promotion "$REPORT" --revision "$REVISION" \
  --environment "${ENVIRONMENT:-staging}" --public-key "$PUBLIC_KEY" --hours "${HOURS:-72}"

#!/bin/sh
# Serves a Qdrant of this pod's own while snapshots.py restores into it, and for a while after.
set -eu
# No braces: by hand it comes through envsubst.
BACKUP=$(printenv BACKUP || echo /backup)
KEEP_SECONDS=$(printenv KEEP_SECONDS || echo 0)
QDRANT=$(printenv QDRANT || echo /qdrant)
cd "$QDRANT"
./entrypoint.sh &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
until [ -e "$BACKUP/restored" ]; do
  if [ -e "$BACKUP/failed" ] || ! kill -0 "$server" 2>/dev/null; then exit 1; fi
  sleep 1
done
sleep "$KEEP_SECONDS"

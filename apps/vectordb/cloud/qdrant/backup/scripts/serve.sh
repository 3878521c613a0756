#!/bin/sh
# Serves a Qdrant of this pod's own while snapshots.py restores into it, and for a while after.
set -eu
: "${BACKUP:=/backup}" "${KEEP_SECONDS:=0}" "${QDRANT:=/qdrant}"
cd "$QDRANT"
./entrypoint.sh &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
until [ -e "$BACKUP/restored" ]; do
  if [ -e "$BACKUP/failed" ] || ! kill -0 "$server" 2>/dev/null; then exit 1; fi
  sleep 1
done
sleep "$KEEP_SECONDS"

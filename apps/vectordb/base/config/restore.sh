#!/bin/sh
# Restores fetched dumps into an empty server of this pod's own, then serves it for a while.
set -eu
# No braces: by hand it comes through envsubst.
BACKUP=$(printenv BACKUP || echo /backup)
KEEP_SECONDS=$(printenv KEEP_SECONDS || echo 0)
RUN=$(printenv RUN || echo /run/postgresql)
until [ -e "$BACKUP/complete" ]; do sleep 1; done
settings="-c config_file=/etc/postgresql/postgresql.conf"
rm -rf "$PGDATA"
initdb -D "$PGDATA" -U postgres --encoding=UTF8 --locale=C.UTF-8 --auth=reject --no-instructions
pg_ctl -D "$PGDATA" -w -t 600 -o "$settings $* -c listen_addresses=''" start
sql() { psql -X -q -v ON_ERROR_STOP=1 -h "$RUN" -U postgres "$@"; }
sql -d postgres -c "CREATE DATABASE rag"
sql -d rag -f /etc/postgresql/bootstrap.sql
for dump in "$BACKUP"/tenant_*.dump; do
  tenant=$(basename "$dump" .dump)
  reader=$tenant"_reader" writer=$tenant"_writer"
  sql -d rag <<SQL
CREATE ROLE $reader NOLOGIN NOINHERIT;
CREATE ROLE $writer NOLOGIN NOINHERIT;
GRANT $reader TO rag_reader, rag_writer WITH ADMIN FALSE, INHERIT FALSE, SET TRUE;
GRANT $writer TO rag_writer WITH ADMIN FALSE, INHERIT FALSE, SET TRUE;
GRANT $reader, $writer TO rag_admin WITH ADMIN TRUE, INHERIT FALSE, SET TRUE;
SQL
  pg_restore --exit-on-error -h "$RUN" -U postgres -d rag "$dump"
  echo "restored $tenant"
done
sql -d rag -c "ANALYZE"
pg_ctl -D "$PGDATA" -w -t 600 -m fast stop
# Ready, and then over: what was restored goes with the pod unless its volume stays.
[ "$KEEP_SECONDS" = 0 ] && exit 0
# shellcheck disable=SC2086  # words
timeout --signal=INT "$KEEP_SECONDS" postgres -D "$PGDATA" $settings "$@" || [ $? = 124 ]

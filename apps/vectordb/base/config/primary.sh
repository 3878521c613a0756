#!/bin/sh
# Makes the cluster where there is none, brings database, roles and extension in step on a socket that only this
# container has, then becomes the server.
set -eu
settings="-c config_file=/etc/postgresql/postgresql.conf"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA.new"
  initdb -D "$PGDATA.new" -U postgres --encoding=UTF8 --locale=C.UTF-8 --auth=reject --no-instructions
  mv "$PGDATA.new" "$PGDATA"
fi
chmod 0700 "$PGDATA"
# With the server's own settings: a lower max_connections, even for this moment, would stop the standby.
pg_ctl -D "$PGDATA" -w -t 600 -o "$settings $* -c listen_addresses=''" start
sql() { psql -X -q -v ON_ERROR_STOP=1 -h /run/postgresql -U postgres "$@" > /dev/null; }
[ "$(psql -X -h /run/postgresql -U postgres -tAc "SELECT 1 FROM pg_database WHERE datname = 'rag'")" = 1 ] ||
  sql -c "CREATE DATABASE rag"
sql -d rag -f /etc/postgresql/bootstrap.sql
sql -d rag -f /etc/postgresql/logins.sql
pg_ctl -D "$PGDATA" -w -t 600 -m fast stop
# shellcheck disable=SC2086  # words
exec postgres -D "$PGDATA" $settings "$@"

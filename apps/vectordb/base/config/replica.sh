#!/bin/sh
# Clones the primary where there is no data, then follows it. The password file is read at each connection.
set -eu
slot=replica_${POD_NAME##*-}
primary="host=vectordb port=5432 user=replica passfile=/vault/secrets/pgpass application_name=$POD_NAME"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA.new"
  pg_basebackup -D "$PGDATA.new" -d "$primary" -S "$slot" -X stream --checkpoint=fast
  touch "$PGDATA.new/standby.signal"
  mv "$PGDATA.new" "$PGDATA"
fi
chmod 0700 "$PGDATA"
exec postgres -D "$PGDATA" -c config_file=/etc/postgresql/postgresql.conf \
  -c primary_conninfo="$primary" -c primary_slot_name="$slot" "$@"

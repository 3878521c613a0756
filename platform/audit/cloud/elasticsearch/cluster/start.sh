#!/bin/sh
# The operator's own users and roles, then the vault's and ours; the server sees when they change.
set -eu
config=/usr/share/elasticsearch/config operator=/mnt/elastic-internal/xpack-file-realm
put() {  # NAME OURS: both in one file without an empty line, replaced as a whole and only when it is another one
  both=$(printf '%s\n' "$(cat "$operator/$1")" "$(cat "$2")")
  [ "$both" = "$(cat "$config/$1")" ] && return
  printf '%s\n' "$both" > "$config/$1.new"
  mv -f "$config/$1.new" "$config/$1"
}
follow() {
  put users /vault/secrets/users
  put users_roles /vault/secrets/users_roles
  put roles.yml /etc/rag/roles.yml
}
follow
(while sleep 15; do follow; done) &
exec /bin/tini -- /usr/local/bin/docker-entrypoint.sh eswrapper

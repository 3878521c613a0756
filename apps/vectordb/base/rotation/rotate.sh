#!/bin/sh
# Gives the store's logins to the vault: its own password is rotated at once, the others on their schedule.
set -eu
: "${STORE:=vectordb.rag-vectordb:5432}"
login() {
  vault write -field=token auth/kubernetes/login role=vault.rotation \
    jwt=@/var/run/secrets/kubernetes.io/serviceaccount/token
}
again() {
  attempt=1
  until "$@"; do
    [ "$attempt" = 60 ] && { echo "gave up: $*" >&2; exit 1; }
    attempt=$((attempt + 1))
    sleep 5
  done
}
token() { VAULT_TOKEN=$(login) && export VAULT_TOKEN; }
again token

first() { vault kv get -mount=secret -field=password vault/rotation/vault-login; }
configure() {
  # The mesh encrypts; the password goes over it as a SCRAM proof, and new ones as verifiers.
  vault write database/config/vectordb plugin_name=postgresql-database-plugin \
    connection_url="postgresql://{{username}}:{{password}}@$STORE/rag?sslmode=disable&connect_timeout=5" \
    username=vault password_authentication=scram-sha-256 \
    allowed_roles=rag-reader,rag-writer,rag-admin,backup,replica \
    max_open_connections=2 max_idle_connections=0 max_connection_lifetime=10s "$@"
}
with_first() { first | configure password=-; }
# Known already: only the vault knows its password now. A store or a vault made anew has the first one again.
known=yes
vault read database/config/vectordb > /dev/null 2>&1 && configure || { known=no; again with_first; }
vault write -f database/rotate-root/vectordb

while read -r role username; do
  again vault write "database/static-roles/$role" db_name=vectordb username="$username" \
    rotation_period="$ROTATION_PERIOD"
  # Such a store does not know the password that the vault has for a role from before.
  [ "$known" = yes ] || again vault write -f "database/rotate-role/$role"
done <<ROLES
rag-reader rag_reader
rag-writer rag_writer
rag-admin rag_admin
backup backup
replica replica
ROLES

#!/bin/sh
# One policy and one role for each service account of the lists: it reads its own folder, and has the grants
# behind its name (`capability[,capability]:path`).
set -eu
ACCESS=${ACCESS:-/access}
login() {
  vault write -field=token auth/kubernetes/login role=vault-access \
    jwt=@/var/run/secrets/kubernetes.io/serviceaccount/token
}
for attempt in 1 2 3 4 5 6 7 8 9 10; do
  VAULT_TOKEN=$(login) && break
  [ "$attempt" = 10 ] && { echo "no login as vault-access: is its role bootstrapped?" >&2; exit 1; }
  sleep 3
done
export VAULT_TOKEN

policy() {
  printf 'path "secret/data/%s/%s/*" { capabilities = ["read"] }\n' "$1" "$2"
  shift 2
  for grant; do
    printf 'path "%s" { capabilities = ["%s"] }\n' "${grant#*:}" "$(echo "${grant%%:*}" | sed 's/,/", "/g')"
  done
}

lists=$(cat "$ACCESS"/*accounts.txt)
set -f  # a grant's * is the policy's, not a file's
wanted=" vault-access secret-generator "
while read -r namespace account grants; do
  role=$namespace.$account
  wanted="$wanted$role "
  # shellcheck disable=SC2086  # one word a grant
  policy "$namespace" "$account" $grants | vault policy write "$role" -
  vault write "auth/kubernetes/role/$role" \
    bound_service_account_names="$account" bound_service_account_namespaces="$namespace" \
    audience="$TOKEN_AUDIENCE" token_policies="$role" token_ttl=20m
done <<LISTS
$lists
LISTS

# What the lists no longer name is taken back.
roles=$(vault list auth/kubernetes/role)
echo "$roles" | sed 1,2d | while read -r role; do
  case "$wanted" in *" $role "*) continue ;; esac
  vault delete "auth/kubernetes/role/$role"
  vault policy delete "$role"
done

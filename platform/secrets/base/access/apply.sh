#!/bin/sh
# One policy and one role for each service account of the list: it reads its own folder and nothing else.
set -eu
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

wanted=" vault-access "
while read -r namespace account; do
  role=$namespace.$account
  wanted="$wanted$role "
  printf 'path "secret/data/%s/%s/*" { capabilities = ["read"] }\n' "$namespace" "$account" |
    vault policy write "$role" -
  vault write "auth/kubernetes/role/$role" \
    bound_service_account_names="$account" bound_service_account_namespaces="$namespace" \
    audience="$TOKEN_AUDIENCE" token_policies="$role" token_ttl=20m
done < /access/service-accounts.txt

# What the list no longer names is taken back.
vault list auth/kubernetes/role | sed 1,2d | while read -r role; do
  case "$wanted" in *" $role "*) continue ;; esac
  vault delete "auth/kubernetes/role/$role"
  vault policy delete "$role"
done

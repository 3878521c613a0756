#!/bin/sh
# A dump of each tenant, consistent in itself, into the folder that the other container keeps.
set -eu
cd "$(printenv BACKUP || echo /backup)"  # no braces: by hand it comes through envsubst
rm -f -- ./*.dump complete
tenants=$(psql -X -tA -c "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'tenant_') ORDER BY 1")
[ -n "$tenants" ] || { echo "the store has no tenant: nothing to back up" >&2; exit 1; }
for tenant in $tenants; do
  pg_dump --format=custom --schema="$tenant" --file="$tenant.dump"
done
touch complete

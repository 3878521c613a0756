-- The logins that rag_store does not know: the vault's, and those of backup and replica. Idempotent.
SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'vault') AS fresh \gset
\if :fresh
CREATE ROLE vault;
CREATE ROLE backup;
CREATE ROLE replica;
\endif
ALTER ROLE vault LOGIN NOSUPERUSER NOCREATEDB NOINHERIT CREATEROLE;
ALTER ROLE backup LOGIN NOSUPERUSER NOCREATEDB INHERIT;
ALTER ROLE replica LOGIN NOSUPERUSER NOCREATEDB NOINHERIT REPLICATION;
GRANT CONNECT ON DATABASE rag TO vault, backup;
GRANT pg_read_all_data TO backup;
-- To set a password takes the admin option; the vault can neither become one of them nor read as one.
GRANT rag_reader, rag_writer, rag_admin, backup, replica TO vault WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;

-- The vault's first password comes from the vault, which then rotates it. A new one there means a new vault.
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
\set password `cat /vault/secrets/vault-password`
SELECT shobj_description(oid, 'pg_authid') IS DISTINCT FROM encode(sha256(:'password'), 'hex') AS fresh,
       encode(sha256(:'password'), 'hex') AS mark
  FROM pg_roles WHERE rolname = 'vault' \gset
\if :fresh
BEGIN;
ALTER ROLE vault PASSWORD :'password';
COMMENT ON ROLE vault IS :'mark';
COMMIT;
\endif

SELECT pg_create_physical_replication_slot(name)
  FROM unnest(ARRAY['replica_0', 'replica_1']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = name);

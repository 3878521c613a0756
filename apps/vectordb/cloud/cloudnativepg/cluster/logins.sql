-- The logins without their passwords. The vault's own gets its first one by hand (docs/fork.md), the vault sets the rest.
CREATE EXTENSION IF NOT EXISTS vector;
CREATE ROLE rag_reader LOGIN NOINHERIT;
CREATE ROLE rag_writer LOGIN NOINHERIT;
CREATE ROLE rag_admin LOGIN NOINHERIT CREATEROLE;
CREATE ROLE backup LOGIN;
CREATE ROLE replica LOGIN NOINHERIT REPLICATION;
CREATE ROLE vault LOGIN NOINHERIT CREATEROLE;
ALTER ROLE rag_admin SET createrole_self_grant = 'set';
REVOKE ALL ON DATABASE rag FROM PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CONNECT ON DATABASE rag TO rag_reader, rag_writer, rag_admin, backup, vault;
GRANT CREATE ON DATABASE rag TO rag_admin;
GRANT pg_read_all_data TO backup;
GRANT rag_reader, rag_writer, rag_admin, backup, replica TO vault WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;

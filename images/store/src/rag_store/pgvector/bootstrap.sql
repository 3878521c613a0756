-- Prepares a database as a store: the extension, the logins without their passwords, nothing open to everybody.
-- Idempotent.
CREATE EXTENSION IF NOT EXISTS vector;
DO $$
DECLARE login text;
BEGIN
  FOREACH login IN ARRAY ARRAY['rag_reader', 'rag_writer', 'rag_admin'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = login) THEN
      EXECUTE format('CREATE ROLE %I', login);
    END IF;
    EXECUTE format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOINHERIT', login);
  END LOOP;
  EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO rag_reader, rag_writer, rag_admin', current_database());
  EXECUTE format('GRANT CREATE ON DATABASE %I TO rag_admin', current_database());
END
$$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
ALTER ROLE rag_admin CREATEROLE;
ALTER ROLE rag_admin SET createrole_self_grant = 'set';

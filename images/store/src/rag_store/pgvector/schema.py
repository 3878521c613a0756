"""Tables and indexes of a tenant and of a generation."""

from psycopg import sql

TENANT_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.generation (
    id text PRIMARY KEY,
    number bigint GENERATED ALWAYS AS IDENTITY,
    model_name text NOT NULL,
    model_digest text NOT NULL UNIQUE,
    dimension integer NOT NULL,
    state text NOT NULL DEFAULT 'building'
);
CREATE UNIQUE INDEX IF NOT EXISTS one_active ON {schema}.generation (state)
    WHERE state = 'active';
CREATE TABLE IF NOT EXISTS {schema}.sync (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    finished_at timestamptz NOT NULL,
    newest_modified_at timestamptz,
    documents bigint NOT NULL,
    chunks bigint NOT NULL
);
"""

# A low toast_tuple_target moves text, vectors and late bytes out of line, so that the lexical
# leg, which reads many rows, reads narrow ones. Term 0 counts the chunks.
GENERATION_TABLES = """
CREATE TABLE IF NOT EXISTS {document} (
    doc_id text COLLATE "C" PRIMARY KEY,
    uri text NOT NULL,
    title text NOT NULL,
    content_hash text NOT NULL,
    modified_at timestamptz NOT NULL,
    metadata jsonb NOT NULL
);
CREATE TABLE IF NOT EXISTS {chunk} (
    doc_id text COLLATE "C" NOT NULL,
    ordinal integer NOT NULL,
    chunk_id text NOT NULL,
    body text NOT NULL,
    heading_path text[] NOT NULL,
    start_offset integer NOT NULL,
    end_offset integer NOT NULL,
    token_count integer NOT NULL,
    term_ids integer[] STORAGE EXTERNAL NOT NULL,
    weights sparsevec(1000000000) STORAGE MAIN NOT NULL,
    dense vector({dimension}) STORAGE EXTERNAL NOT NULL,
    late bytea STORAGE EXTERNAL,
    PRIMARY KEY (doc_id, ordinal)
) WITH (toast_tuple_target = 1024, autovacuum_vacuum_scale_factor = 0.05,
        autovacuum_vacuum_insert_scale_factor = 0.1);
CREATE INDEX IF NOT EXISTS {lexical_index} ON {chunk} USING gin (term_ids)
    WITH (fastupdate = off);
CREATE TABLE IF NOT EXISTS {term} (
    term_id integer PRIMARY KEY,
    chunks bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1);
"""

HNSW_INDEX = """
CREATE INDEX IF NOT EXISTS {dense_index} ON {chunk} USING hnsw (dense vector_cosine_ops)
    WITH (m = {m}, ef_construction = {ef_construction})
"""


def dense_index(generation_id: str) -> sql.Identifier:
    """The HNSW index's name, quoted, without its schema."""
    return sql.Identifier(f"chunk_{generation_id}_hnsw")


def lexical_index(generation_id: str) -> sql.Identifier:
    """The GIN index's name, quoted, without its schema."""
    return sql.Identifier(f"chunk_{generation_id}_gin")

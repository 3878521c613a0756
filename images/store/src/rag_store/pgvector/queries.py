"""The search as one SQL statement: both legs, their fusion, then the chunks that are best."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from psycopg import sql

from rag_store.base import Chunk, Hit, HnswParameters, SearchMode
from rag_store.bm25 import DIMENSIONS
from rag_store.fusion import K
from rag_store.pgvector.names import TenantNames
from rag_store.pgvector.session import BEGIN

# The planner must see a literal limit and ef_search of our choice. It does not know what fetching
# a vector out of line costs, so sequential scans are for `exact`. Without them the terms decide
# nothing but whether parallel workers start, which gained no time (60,000 chunks, every one
# matching): planning once for all queries saves a third of the server's time on a small index.
# strict_order goes on searching when dead tuples (updates not yet vacuumed) crowd out live ones.
_SETTINGS = (
    "set_config('hnsw.ef_search', %(ef_search)s, true), "
    "set_config('enable_seqscan', %(seqscan)s, true), "
    "set_config('hnsw.iterative_scan', 'strict_order', true), "
    "set_config('plan_cache_mode', 'force_generic_plan', true)"
)
SEARCH_SETTINGS = f"SELECT {_SETTINGS}"
BEGIN_SEARCH = f"{BEGIN}, {_SETTINGS}"

_DENSE = """
SELECT doc_id, ordinal, chunk_id, true AS is_dense, 1 - (dense <=> %(dense)b) AS score
FROM (SELECT doc_id, ordinal, chunk_id, dense FROM {chunk} ORDER BY {distance} LIMIT {limit})
"""

# idf = ln(1 + (N - n + 0.5) / (n + 0.5)), see rag_store.bm25; sparsevec's text counts from 1.
_LEXICAL = """
SELECT doc_id, ordinal, chunk_id, false AS is_dense, -(weights <#> (
    SELECT ('{{' || string_agg(
        term_id + 1 || ':' || ln(1 + (total.n - chunks + 0.5::float8) / (chunks + 0.5::float8)),
        ',' ORDER BY term_id) || '}}/{dimensions}')::sparsevec
    FROM {term}, (SELECT chunks AS n FROM {term} WHERE term_id = 0) AS total
    WHERE term_id = ANY(%(terms)b::integer[]) AND chunks > 0
)) AS score
FROM {chunk} WHERE term_ids && %(terms)b::integer[]
ORDER BY score DESC LIMIT {limit}
"""

# The same ranks, scores and ties as rag_store.fusion.rank, so that text and token vectors, which
# lie out of line, are read of the best `limit` chunks alone. Python orders strings as "C" does.
_SEARCH = """
WITH legs AS MATERIALIZED (
    SELECT *, row_number() OVER (
        PARTITION BY is_dense ORDER BY score DESC, chunk_id COLLATE "C") AS rank
    FROM ({legs})
), best AS MATERIALIZED (
    SELECT doc_id, ordinal, {score} AS score,
        max(score) FILTER (WHERE is_dense) AS dense_score,
        max(rank) FILTER (WHERE is_dense) AS dense_rank,
        max(score) FILTER (WHERE NOT is_dense) AS lexical_score,
        max(rank) FILTER (WHERE NOT is_dense) AS lexical_rank
    FROM legs GROUP BY doc_id, ordinal, chunk_id
    ORDER BY {score} DESC, chunk_id COLLATE "C" LIMIT {limit}
)
SELECT {columns}, uri, title, score, dense_score, dense_rank, lexical_score, lexical_rank, {late}
FROM best JOIN {chunk} AS c USING (doc_id, ordinal) JOIN {document} USING (doc_id)
ORDER BY score DESC, chunk_id COLLATE "C"
"""

_RRF = f"sum(1 / ({K} + rank)::float8)"

CHUNK_COLUMNS = sql.SQL(
    "c.chunk_id, c.doc_id, c.ordinal, c.body, c.heading_path, c.start_offset, c.end_offset, "
    "c.token_count"
)


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """What decides a search statement's text; its parameters are `dense` and `terms`."""

    mode: SearchMode
    limit: int
    exact: bool
    with_late: bool

    def statement(self, tables: dict[str, sql.Identifier]) -> sql.Composed:
        """The SQL over one generation's tables; its rows come best first."""
        # An expression that no index is for makes the scan exact, whatever the planner believes.
        distance = "(dense <=> %(dense)b) + 0" if self.exact else "dense <=> %(dense)b"
        legs = {
            SearchMode.DENSE: [_DENSE],
            SearchMode.LEXICAL: [_LEXICAL],
            SearchMode.HYBRID: [_DENSE, _LEXICAL],
        }[self.mode]
        parts = dict(
            tables,
            limit=sql.Literal(self.limit),
            distance=sql.SQL(distance),
            dimensions=sql.SQL(str(DIMENSIONS)),
            columns=CHUNK_COLUMNS,
            score=sql.SQL(_RRF if len(legs) > 1 else "max(score)"),
            late=sql.SQL("c.late" if self.with_late else "NULL::bytea"),
        )
        union = sql.SQL(" UNION ALL ").join(
            sql.SQL("(") + sql.SQL(leg).format(**parts) + sql.SQL(")") for leg in legs
        )
        return sql.SQL(_SEARCH).format(legs=union, **parts)


@lru_cache(maxsize=1024)
def search_sql(plan: SearchPlan, names: TenantNames, generation_id: str) -> bytes:
    """The statement of `plan` over a tenant's generation, composed once."""
    return plan.statement(names.tables(generation_id)).as_bytes()


def search_settings(hnsw: HnswParameters, limit: int, *, exact: bool = False) -> dict[str, Any]:
    """The parameters of `SEARCH_SETTINGS`; a search never looks at fewer than it returns."""
    return {"ef_search": str(max(hnsw.ef_search, limit)), "seqscan": "on" if exact else "off"}


def hit_of(row: tuple[Any, ...]) -> Hit:
    """The hit in a row of the search."""
    uri, title, score, dense_score, dense_rank, lexical_score, lexical_rank, late = row[8:]
    ranks = (dense_score, dense_rank, lexical_score, lexical_rank)
    return Hit(chunk_of(row), uri, title, score, *ranks, late)


def chunk_of(row: tuple[Any, ...]) -> Chunk:
    """The chunk in a row that begins with `CHUNK_COLUMNS`."""
    chunk_id, doc_id, ordinal, body, headings, start, end, tokens = row[:8]
    return Chunk(chunk_id, doc_id, ordinal, body, tuple(headings), start, end, tokens)

"""The search as one SQL statement: both legs, then the chunks that either found."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from rag_store.base import Chunk, HnswParameters, SearchMode
from rag_store.bm25 import DIMENSIONS

# The planner must see each query's own terms, a literal limit, and ef_search of our choice. It
# does not know what fetching a vector out of line costs, so sequential scans are for `exact`.
# strict_order goes on searching when dead tuples (updates not yet vacuumed) crowd out live ones.
SEARCH_SETTINGS = (
    "SELECT set_config('hnsw.ef_search', %(ef_search)s, true), "
    "set_config('enable_seqscan', %(seqscan)s, true), "
    "set_config('hnsw.iterative_scan', 'strict_order', true), "
    "set_config('plan_cache_mode', 'force_custom_plan', true)"
)

_DENSE = """
SELECT doc_id, ordinal, 1 - (dense <=> %(dense)s) AS dense_score, NULL::float8 AS lexical_score
FROM (SELECT doc_id, ordinal, dense FROM {chunk} ORDER BY {distance} LIMIT {limit}) AS nearest
"""

# idf = ln(1 + (N - n + 0.5) / (n + 0.5)), see rag_store.bm25; sparsevec's text counts from 1.
_LEXICAL = """
SELECT doc_id, ordinal, NULL::float8 AS dense_score, score AS lexical_score
FROM (
    SELECT doc_id, ordinal, -(weights <#> (
        SELECT ('{{' || string_agg(
            term_id + 1 || ':' || ln(1 + (total.n - chunks + 0.5::float8) / (chunks + 0.5::float8)),
            ',' ORDER BY term_id) || '}}/{dimensions}')::sparsevec
        FROM {term}, (SELECT chunks AS n FROM {term} WHERE term_id = 0) AS total
        WHERE term_id = ANY(%(terms)s) AND chunks > 0
    )) AS score
    FROM {chunk} WHERE term_ids && %(terms)s
    ORDER BY score DESC LIMIT {limit}
) AS best
"""

_SEARCH = """
WITH legs AS MATERIALIZED ({legs}), found AS (
    SELECT doc_id, ordinal, max(dense_score) AS dense_score, max(lexical_score) AS lexical_score
    FROM legs GROUP BY doc_id, ordinal
)
SELECT {columns}, uri, title, dense_score, lexical_score, {late}
FROM found JOIN {chunk} AS c USING (doc_id, ordinal) JOIN {document} USING (doc_id)
"""

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
        """The SQL over one generation's tables."""
        # An expression that no index is for makes the scan exact, whatever the planner believes.
        distance = "(dense <=> %(dense)s) + 0" if self.exact else "dense <=> %(dense)s"
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
            late=sql.SQL("c.late" if self.with_late else "NULL::bytea"),
        )
        union = sql.SQL(" UNION ALL ").join(
            sql.SQL("(") + sql.SQL(leg).format(**parts) + sql.SQL(")") for leg in legs
        )
        return sql.SQL(_SEARCH).format(legs=union, **parts)


def search_settings(hnsw: HnswParameters, limit: int, *, exact: bool = False) -> dict[str, Any]:
    """The parameters of `SEARCH_SETTINGS`; a search never looks at fewer than it returns."""
    return {"ef_search": str(max(hnsw.ef_search, limit)), "seqscan": "on" if exact else "off"}


def chunk_of(row: tuple[Any, ...]) -> Chunk:
    """The chunk in a row that begins with `CHUNK_COLUMNS`."""
    chunk_id, doc_id, ordinal, body, headings, start, end, tokens = row[:8]
    return Chunk(chunk_id, doc_id, ordinal, body, tuple(headings), start, end, tokens)

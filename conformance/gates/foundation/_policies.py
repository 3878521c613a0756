"""Who may dial whom: the declared matrix, the seed's own denials, and both tables side by side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from conformance.errors import SuiteError
from conformance.gate import ProbeError
from conformance.gates.foundation._layers import LAYERS, PLATFORM
from conformance.static import matrix
from conformance.static.matrix import Edge, Matrix

STRANGER = ""  # an account that nobody knows
METRICS = ("monitoring", "prometheus")  # may read the sidecars' port, and only that
METRICS_PORT = 15020
UNDECLARED_PORT = 8079  # nobody's
# The seed's words, here and not in a file: an edited matrix cannot make them green.
ONLY = {
    # and the vault, without which the logins there could not be rotated
    "rag-vectordb": {
        ("rag-retrieval", "retrieval"),
        ("rag-ingestion", "ingestion"),
        ("vault", "vault"),
    },
    "rag-llm": {("rag-retrieval", "retrieval")},
    "rag-retrieval": {("rag-gateway", "gateway")},
}


@dataclass(frozen=True, order=True, slots=True)
class Who:
    """A pod of the matrix: the account whose label it carries, or a stranger."""

    namespace: str
    account: str = STRANGER

    @property
    def label(self) -> str:
        """Its name as the policies know it."""
        return self.account or "stranger"

    def __str__(self) -> str:
        return f"{self.namespace}/{self.label}"


@dataclass(frozen=True, slots=True)
class Dialled:
    """One edge as it was dialled, and whether it should be open."""

    source: Who
    to: Who
    port: int
    expected: bool
    opened: bool

    @property
    def denied_by_seed(self) -> bool:
        """Whether the seed itself forbids it, whatever the matrix says."""
        return seed_denies(self.source, self.to, self.port)

    def __str__(self) -> str:
        told = f"expected {_word(self.expected)}, measured {_word(self.opened)}"
        return f"{self.source} -> {self.to}:{self.port}: {told}"


def declared(environment: str) -> Matrix:
    """The matrix of the repository under the environment's vars; raises `ProbeError`."""
    try:
        return matrix.of(environment)
    except SuiteError as error:
        raise ProbeError(str(error)) from error


def parties(declared: Matrix, outsider: str) -> list[Who]:
    """Every account, a stranger in every namespace of the design and in `outsider`."""
    accounts = {Who(*account) for account in declared.accounts}
    strangers = {Who(name) for name in (*LAYERS, *PLATFORM, outsider)}
    return sorted(accounts | strangers | {Who(*METRICS)})


def ports(declared: Matrix) -> list[int]:
    """Every port that somebody may dial, and one that nobody may."""
    named = {edge.port for edge in declared.flows | declared.outside}
    return sorted({*named, METRICS_PORT, UNDECLARED_PORT})


def expected(declared: Matrix, source: Who, to: Who, port: int) -> bool:
    """Whether the matrix lets `source` dial a pod of ours that stands for `to`."""
    if (source.namespace, source.account) == METRICS and to.namespace in LAYERS:
        return (source.namespace, port) in declared.reaching
    edge = Edge(source.namespace, source.account, to.namespace, to.account, port)
    return edge in declared.flows


def seed_denies(source: Who, to: Who, port: int) -> bool:
    """Whether the seed forbids it; the peers of one namespace are its own affair."""
    if (source.namespace, source.account) == METRICS and port == METRICS_PORT:
        return False
    callers = ONLY.get(to.namespace)
    known = callers is None or source.namespace == to.namespace
    return not known and (source.namespace, source.account) not in (callers or ())


def concerned(source: Who, to: Who) -> bool:
    """Whether the matrix speaks of the pair: the platform's own namespaces are not layers."""
    return source != to and bool({source.namespace, to.namespace} & set(LAYERS))


def side_by_side(dialled: Sequence[Dialled]) -> str:
    """Two tables, expected and measured, of open ports from each row to each column."""
    columns = sorted({d.to.namespace for d in dialled})
    sources = sorted({d.source for d in dialled})
    width = max(len(str(s)) for s in sources)
    legend = [f"{number:>2} {name}" for number, name in enumerate(columns, 1)]
    head = "".join(f"{number:>4}" for number in range(1, len(columns) + 1))
    lines = [f"{'':{width}} {'expected':<{len(head)}}    measured", f"{'':{width}}{head}    {head}"]
    for source in sources:
        row = [d for d in dialled if d.source == source]
        tables = [_cells(row, columns, what) for what in ("expected", "opened")]
        lines.append(f"{source!s:{width}}{tables[0]}    {tables[1]}")
    return "\n".join([*lines, "", "open (account, port) pairs to:", *legend]) + "\n"


def _cells(row: Iterable[Dialled], columns: Sequence[str], what: str) -> str:
    counts = dict.fromkeys(columns, 0)
    asked = set()
    for dialled in row:
        asked.add(dialled.to.namespace)
        counts[dialled.to.namespace] += getattr(dialled, what)
    shown = [str(counts[name] or ".") if name in asked else "-" for name in columns]
    return "".join(f"{cell:>4}" for cell in shown)


def _word(is_open: bool) -> str:
    return "open" if is_open else "shut"

"""What callers are told while parts of the platform are away: every request and its outcome."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

from conformance.probes.audit import Seen

Body = Mapping[str, Any]
RETRIEVE, ANSWER = "/v1/retrieve", "/v1/answer"
_AGAIN = frozenset({502, 503, 504})  # the caller knows that there is no answer, and may ask again
_FLAGGED = 403
CONNECT_SECONDS = 3.0
_TOLD = 160  # characters


class Outcome(StrEnum):
    """What became of a request."""

    SERVED = "served"  # a right answer, or the guard's verdict on the question
    REFUSED = "refused"  # 502, 503 or 504
    CUT = "cut"  # nothing that is HTTP
    WRONG = "wrong"  # a 200 without what was asked for
    UNCLEAR = "unclear"  # any other status


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: when it began (seconds of the clock), how long it took, what was told."""

    at: float
    seconds: float
    path: str
    query: str
    outcome: Outcome
    status: int = 0
    told: str = ""
    body: Body = field(default_factory=dict)  # of a 200

    @property
    def ended(self) -> float:
        """When its caller knew."""
        return self.at + self.seconds

    @property
    def failed(self) -> bool:
        """Whether its caller has no right answer."""
        return self.outcome is not Outcome.SERVED

    @property
    def seen(self) -> Seen | None:
        """What the audit trail must tell of it; None for a request without an answer."""
        if not self.body:
            return None
        return Seen(self.path, self.query, str(self.body.get("status", "ok")), self.body)


class Asking:
    """Asks through a client, judges what comes back, and keeps it; may be shared by threads."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self._began, self._lock = time.monotonic(), threading.Lock()
        self._rows: list[Asked] = []
        self._open: dict[object, tuple[str, float]] = {}  # path and beginning of what is under way

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @property
    def rows(self) -> Sequence[Asked]:
        """What came back so far, in the order of its end."""
        with self._lock:
            return list(self._rows)

    def ask(
        self, path: str, query: str, body: Body, timeout: float, wrong: Callable[[Body], str]
    ) -> str:
        """'' for a right answer, else what the caller was told; `wrong` judges a 200's body."""
        mark = object()
        with self._lock:
            self._open[mark] = path, (at := self.elapsed)
        status, outcome, told, answer = self._posted(path, body, timeout, wrong)
        row = Asked(at, self.elapsed - at, path, query, outcome, status, told, answer)
        with self._lock:
            self._rows.append(row)
            del self._open[mark]
        return f"{outcome}: {status or ''} {told}" if row.failed else ""

    def _posted(
        self, path: str, body: Body, timeout: float, wrong: Callable[[Body], str]
    ) -> tuple[int, Outcome, str, dict[str, Any]]:
        limits = httpx.Timeout(timeout, connect=CONNECT_SECONDS)
        try:
            response = self.client.post(path, json=body, timeout=limits)
        except httpx.HTTPError as error:
            return 0, Outcome.CUT, f"{type(error).__name__}: {error}"[:_TOLD], {}
        return response.status_code, *judged(response, wrong)

    def well_since(self, at: float, in_a_row: int) -> bool:
        """Whether the last `in_a_row` retrievals since `at` were served, and none before them hangs."""
        with self._lock:
            began = [begun for path, begun in self._open.values() if path == RETRIEVE]
            since = [row for row in self._rows if row.path == RETRIEVE and row.at >= at]
        last = since[-in_a_row:]
        if len(last) < in_a_row or any(row.failed for row in last):
            return False
        return min(began, default=self.elapsed) >= min(row.at for row in last)


def judged(
    response: httpx.Response, wrong: Callable[[Body], str]
) -> tuple[Outcome, str, dict[str, Any]]:
    """The outcome of a response, what it told, and the body of an answer."""
    text = f"{_type(response)} {response.text[:_TOLD]}"
    if response.status_code == httpx.codes.OK:
        try:
            body = dict(response.json())
            found = wrong(body)
        except (ValueError, TypeError, KeyError) as error:
            return Outcome.WRONG, f"{type(error).__name__}: {text}", {}
        return (Outcome.WRONG if found else Outcome.SERVED), found, body
    if response.status_code in _AGAIN:
        return Outcome.REFUSED, text, {}
    if response.status_code == _FLAGGED and '"rule"' in response.text:
        return Outcome.SERVED, "flagged", {}
    return Outcome.UNCLEAR, text, {}


def _type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "no type")).partition(";")[0]


def wrong_passages(body: Body, tenant: str, first: str) -> str:
    """What is wrong with passages that were led by document `first` when all was well, or ''."""
    if body["tenant"] != tenant:
        return f"passages of tenant {body['tenant']}"
    documents = [result["doc_id"] for result in body["results"]]
    if not documents:
        return "no passage"
    return "" if first in documents else f"without {first}, which came first before"


def wrong_answer(body: Body) -> str:
    """What is wrong with an answer, or ''; a question may be declined."""
    if body["status"] == "declined":
        return ""
    return "" if body["answer"] and body["citations"] else f"{body['status']} with nothing"

"""What a caller is told, judged: right, refused, cut off, wrong, or left in doubt."""

import threading

import httpx
import pytest

from conformance.probes.asked import (
    ANSWER,
    RETRIEVE,
    Asking,
    Outcome,
    judged,
    wrong_answer,
    wrong_passages,
)


def passages(**body):
    return wrong_passages(body, "conformance", "d1")


def test_passages_are_right_when_they_have_what_came_first_before():
    assert passages(tenant="conformance", results=[{"doc_id": "d2"}, {"doc_id": "d1"}]) == ""
    assert "without d1" in passages(tenant="conformance", results=[{"doc_id": "d2"}])
    assert passages(tenant="conformance", results=[]) == "no passage"
    assert "tenant other" in passages(tenant="other", results=[{"doc_id": "d1"}])


def test_an_answer_cites_or_is_declined():
    assert wrong_answer({"status": "declined", "answer": "", "citations": []}) == ""
    assert wrong_answer({"status": "answered", "answer": "x", "citations": [1]}) == ""
    assert wrong_answer({"status": "answered", "answer": "x", "citations": []})
    assert wrong_answer({"status": "answered", "answer": "", "citations": [1]})


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        (httpx.Response(200, json={"ok": 1}), Outcome.SERVED),
        (httpx.Response(200, json={}), Outcome.WRONG),  # the field that is judged is not there
        (httpx.Response(200, json=[1]), Outcome.WRONG),
        (httpx.Response(200, text=""), Outcome.WRONG),
        (httpx.Response(403, json={"rule": "override"}), Outcome.SERVED),
        (httpx.Response(403, json={"title": "no"}), Outcome.UNCLEAR),
        (httpx.Response(502), Outcome.REFUSED),
        (httpx.Response(503, json={"title": "later"}), Outcome.REFUSED),
        (httpx.Response(504), Outcome.REFUSED),
        (httpx.Response(500), Outcome.UNCLEAR),
        (httpx.Response(429), Outcome.UNCLEAR),
        (httpx.Response(404), Outcome.UNCLEAR),
    ],
)
def test_outcomes(response, outcome):
    assert judged(response, lambda body: "" if body["ok"] else "not ok")[0] is outcome


def asking(respond):
    return Asking(httpx.Client(transport=httpx.MockTransport(respond), base_url="http://gateway"))


def ask(made, path=RETRIEVE):
    return made.ask(path, "q", {"query": "q"}, 5, lambda body: "")


def test_a_connection_that_breaks_is_a_request_without_an_answer():
    def broken(request):
        raise httpx.ReadError("reset by peer")

    made = asking(broken)
    assert ask(made) == "cut:  ReadError: reset by peer"
    (row,) = made.rows
    assert (row.outcome, row.status, row.seen, row.failed) == (Outcome.CUT, 0, None, True)


def test_all_is_well_after_enough_retrievals_in_a_row_and_none_that_hangs():
    held, entered = threading.Event(), threading.Event()
    status = [503]

    def respond(request):
        if b"hangs" in request.content:
            entered.set()
            held.wait(5)
        return httpx.Response(status[0], json={"request_id": "r"})

    made = asking(respond)
    ask(made)
    status[0] = 200
    begin = made.elapsed
    hanging = threading.Thread(
        target=made.ask, args=(RETRIEVE, "q", {"query": "hangs"}, 5, lambda body: "")
    )
    hanging.start()
    entered.wait(5)
    since = made.elapsed
    ask(made, ANSWER)
    ask(made)
    assert not made.well_since(since, 2)  # answers do not count
    ask(made)
    assert not made.well_since(since, 2)  # one from before is under way
    assert not made.well_since(begin, 2)  # though it began since
    held.set()
    hanging.join()
    assert made.well_since(since, 2)
    status[0] = 503
    ask(made)
    assert not made.well_since(since, 2)


def test_what_the_trail_must_tell_is_known_of_answers_only():
    made = asking(
        lambda request: httpx.Response(200, json={"request_id": "r1", "status": "declined"})
    )
    ask(made, ANSWER)
    (row,) = made.rows
    assert (row.seen.request_id, row.seen.outcome, row.seen.path) == ("r1", "declined", ANSWER)

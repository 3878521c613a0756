"""Foundation gates measured side by side: bounded, timed, interrupted, and each with its outcome."""

import signal
import threading
import time
from types import SimpleNamespace

import pytest

from conformance import measure, parallel
from conformance.errors import GateTimeoutError
from conformance.gate import Gate, Phase, Status
from conformance.plan import Planned
from conformance.run import Run
from conformance.verdict import Result

SLOW = """
FOLDER = Path({folder!r})

def measure(ctx):
    name = FOLDER / str(os.urandom(4).hex())
    name.touch()
    try:
        for _ in range({steps}):
            time.sleep(.05)
            count = len(list(FOLDER.iterdir()))
            (FOLDER.parent / "most").open("a").write(f"{{count}} ")
    finally:
        name.unlink()
    return Observation({{"x": Measurement(0.9, 100)}})
"""


@pytest.fixture
def alive(tmp_path):
    folder = tmp_path / "alive"
    folder.mkdir()
    return folder


def most(folder):
    return max(int(n) for n in (folder.parent / "most").read_text().split())


def planned(gate_id):
    return Planned(gate_id, Phase.FOUNDATION, None, None)


def test_foundation_gates_run_together_but_not_all_at_once(suite, alive):
    for number in range(6):
        suite.gate(f"gate-{number}", SLOW.format(folder=str(alive), steps=8), phase="foundation")
    assert suite.run() == 0
    assert [g["id"] for g in suite.report["gates"]] == [f"gate-{n}" for n in range(6)]
    assert most(alive) == parallel.AT_ONCE


def test_other_phases_are_measured_one_at_a_time(suite, alive):
    for number in range(3):
        suite.gate(f"gate-{number}", SLOW.format(folder=str(alive), steps=2))
    assert suite.run() == 0
    assert most(alive) == 1


def test_one_that_fails_or_breaks_does_not_touch_the_others(suite, green):
    suite.gate("alpha", green, phase="foundation")
    suite.gate("beta", "def measure(ctx): raise ProbeError('no answer')", phase="foundation")
    suite.gate("gamma", "def measure(ctx): return Observation({})", phase="foundation")
    suite.gate("delta", green, phase="foundation", slo=False)
    assert suite.run() == 1
    told = {g["id"]: g["status"] for g in suite.report["gates"]}
    assert told == {"alpha": "pass", "beta": "error", "gamma": "fail", "delta": "error"}


def test_a_gate_that_takes_too_long_is_ended_and_cleans_up(suite, alive, green):
    suite.gate("alpha", SLOW.format(folder=str(alive), steps=200), phase="foundation")
    suite.gates["foundation"]["alpha"]["timeout_seconds"] = 0.3
    suite.gate("beta", green, phase="foundation")
    assert suite.run() == 1
    assert suite.result("alpha")["reason"] == "timeout: no result after 0.3 s"
    assert suite.result("beta")["status"] == "pass"
    assert not list(alive.iterdir())


BESIDE = """
GATE = Gate("last", Phase.DATA, "Last", "A promise.", measure, beside=True)
"""


def test_one_beside_the_others_begins_with_the_run_and_is_told_in_its_turn(suite, alive):
    slow = SLOW.format(folder=str(alive), steps=8)
    suite.gate("first", slow)
    suite.gate("second", slow)
    suite.gate("last", slow, declare=BESIDE)
    assert suite.run() == 0
    assert [g["id"] for g in suite.report["gates"]] == ["first", "second", "last"]
    assert most(alive) == 2


def test_one_beside_the_others_is_blocked_by_what_failed_before_it_all_the_same(suite, alive):
    suite.gate("first", "def measure(ctx): raise ProbeError('no answer')", phase="foundation")
    suite.gate("last", SLOW.format(folder=str(alive), steps=400), declare=BESIDE)
    assert suite.run() == 1
    assert suite.result("last")["reason"] == "blocked by first"
    assert not list(alive.iterdir())


def test_the_bar_is_that_of_the_gate_that_is_asked_for(monkeypatch):
    told, moved = [], threading.Event()

    def measured(run, each):
        if each.id == "alone":
            moved.wait(10)  # the other one has told of itself by then
        run._step(each.id, 1, 2, each.id)
        moved.set()
        return Result(each.id, each.phase, Status.PASS)

    monkeypatch.setattr(Run, "_measured", measured)
    beside = Gate("beside", Phase.DATA, "Beside", "A promise.", lambda context: None, beside=True)
    plan = [Planned("alone", Phase.DATA, None, None), Planned("beside", Phase.DATA, beside, None)]
    bar = SimpleNamespace(step=lambda done, total, what: told.append(what))
    run = Run(SimpleNamespace(keep_going=True), None, None, plan, bar, len(plan))
    assert [run.measure(each).status for each in plan] == [Status.PASS, Status.PASS]
    assert told == ["alone"]
    for ahead in run.aheads.values():
        ahead.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_of_them_and_each_cleans_up(suite, alive, number):
    for gate in ("alpha", "beta", "gamma", "delta", "epsilon"):
        suite.gate(gate, SLOW.format(folder=str(alive), steps=400), phase="foundation")
    process = suite.spawn()
    deadline = time.monotonic() + 60
    while len(list(alive.iterdir())) < parallel.AT_ONCE and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 2
    assert not list(alive.iterdir())


def test_a_time_limit_in_a_thread_is_that_threads_own():
    seen = {}

    def work(name, seconds):
        try:
            with measure.time_limit(seconds):
                for _ in range(20):
                    time.sleep(0.02)
            seen[name] = "done"
        except GateTimeoutError as error:
            seen[name] = str(error)

    threads = [threading.Thread(target=work, args=pair) for pair in [("short", 0.1), ("long", 5)]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {"short": "no result after 0.1 s", "long": "done"}


def test_a_time_limit_that_was_kept_raises_nothing_later():
    caught = []

    def work():
        try:
            for _ in range(50):
                with measure.time_limit(0.001):
                    pass
            time.sleep(0.05)
        except GateTimeoutError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(caught) <= 1


def test_what_has_not_begun_is_not_measured_after_the_stop():
    begun, release = [], threading.Event()

    def one(each):
        begun.append(each.id)
        while not release.wait(0.01):
            pass
        return Result(each.id, each.phase, Status.PASS)

    ahead = parallel.Ahead(one, [planned("a"), planned("b"), planned("c")], at_once=1)
    while not begun:
        time.sleep(0.01)
    ahead.stop()
    assert begun == ["a"]
    with pytest.raises(KeyboardInterrupt):
        ahead.outcome("a")


def test_an_outcome_is_the_gates_own():
    ahead = parallel.Ahead(
        lambda each: Result(each.id, each.phase, Status.PASS), [planned("a"), planned("b")]
    )
    assert (ahead.outcome("b").id, ahead.outcome("a").id) == ("b", "a")
    ahead.stop()

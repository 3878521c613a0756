"""`--prove`: a gate is proven only when its fault turns it red and it is green again after."""

import signal
import time

import pytest

WORLD = """
STATE = Path({state!r})

def measure(ctx):
    with Path({log!r}).open("a") as file:
        file.write("measured ")
    if (STATE / "error").exists():
        raise ProbeError("no answer")
    broken = (STATE / "broken").exists()
    return Observation({{"x": Measurement(0.1 if broken else 0.9, 100, 0.87, 0.93)}})

@contextlib.contextmanager
def touch(ctx, *names, keep=False):
    for name in names:
        (STATE / name).touch()
    try:
        yield
    finally:
        for name in () if keep else names:
            (STATE / name).unlink()

"""


@pytest.fixture
def world(suite, tmp_path):
    state = tmp_path / "state"
    state.mkdir()

    def make(faults, gate="alpha"):
        text = WORLD.format(state=str(state), log=str(tmp_path / "log"))
        suite.gate(gate, text + faults)
        return suite

    return make


def proofs(suite):
    return [(p["before"], p["during"], p["after"], p["proven"]) for p in suite.report["proofs"]]


def test_red_with_the_fault_and_green_after_it_is_proven(world, tmp_path):
    suite = world(
        "FAULTS = [Fault('one', lambda c: touch(c, 'broken')), Fault('two', lambda c: touch(c, 'broken'))]"
    )
    assert suite.run("--prove") == 0
    assert proofs(suite) == [("pass", "fail", "pass", True)] * 2
    assert not list((tmp_path / "state").iterdir())
    assert (tmp_path / "log").read_text().split().count("measured") == 5
    assert (suite.report_folder / "proof/alpha/1-red/gate/result.json").exists()
    assert (
        "proof/alpha/2-green/gate/result.json" in (suite.report_folder / "SHA256SUMS").read_text()
    )
    assert "Proof that the gates can fail" in (suite.report_folder / "report.html").read_text()


def test_a_fault_that_changes_nothing_is_not_proven(world):
    suite = world("FAULTS = [Fault('nothing', lambda c: touch(c, 'irrelevant'))]")
    assert suite.run("--prove") == 1
    assert proofs(suite) == [("pass", "pass", "pass", False)]
    assert suite.report["unproven"] == ["alpha"]
    assert suite.report["verdict"] == "NO-GO"


def test_an_error_is_not_red(world):
    suite = world("FAULTS = [Fault('breaks the probe', lambda c: touch(c, 'error'))]")
    assert suite.run("--prove") == 1
    assert proofs(suite) == [("pass", "error", "pass", False)]


def test_a_gate_that_stays_red_is_not_proven_and_later_faults_are_not_tried(world):
    suite = world(
        "FAULTS = [Fault('stays', lambda c: touch(c, 'broken', keep=True)),"
        " Fault('next', lambda c: touch(c, 'broken'))]"
    )
    assert suite.run("--prove") == 1
    assert proofs(suite) == [("pass", "fail", "fail", False), ("fail", None, None, False)]


def test_a_gate_without_faults_is_not_proven(world):
    suite = world("FAULTS = []")
    assert suite.run("--prove") == 1
    assert suite.report["proofs"][0]["reason"] == "the gate declares no fault"


def test_a_gate_that_was_not_green_is_not_proven(world, tmp_path):
    suite = world("FAULTS = [Fault('one', lambda c: touch(c, 'broken'))]")
    (tmp_path / "state" / "broken").touch()
    assert suite.run("--prove") == 1
    assert proofs(suite) == [("fail", None, None, False)]


@pytest.mark.parametrize(
    "plant",
    [
        "def plant(ctx): raise ProbeError('cannot plant')",
        "def plant(ctx): return None",
        "@contextlib.contextmanager\ndef plant(ctx):\n    yield\n    raise OSError('cannot mend')",
    ],
)
def test_a_fault_that_breaks_is_not_proven(world, plant):
    suite = world(f"{plant}\nFAULTS = [Fault('broken fault', plant)]")
    assert suite.run("--prove") == 1
    assert proofs(suite)[0][1] == "error"
    assert "the fault broke" in suite.report["proofs"][0]["reason"]


def test_a_fault_that_hangs_while_it_is_planted_is_not_proven(world):
    suite = world("def plant(ctx): time.sleep(60)\nFAULTS = [Fault('hangs', plant)]")
    suite.top = {"timeout_seconds": 0.5}
    assert suite.run("--prove") == 1
    assert "GateTimeoutError" in suite.report["proofs"][0]["reason"]


def test_samples_are_fresh_with_a_fault_but_for_the_corpus(suite, tmp_path):
    body = f"""
    STATE = Path({str(tmp_path)!r})

    def make(ctx):
        with (STATE / "log").open("a") as file:
            file.write(ctx.name + " ")
        return 0.1 if (STATE / "broken").exists() else 0.9

    def measure(ctx):
        assert ctx.shared("corpus", make) == 0.9
        return Observation({{"x": Measurement(ctx.shared("answers", make), 100)}})

    @contextlib.contextmanager
    def plant(ctx):
        (STATE / "broken").touch()
        yield
        (STATE / "broken").unlink()

    FAULTS = [Fault("one", plant)]
    """
    suite.gate("alpha", body)
    assert suite.run("--prove") == 0
    assert (tmp_path / "log").read_text().split() == ["corpus", "answers", "answers", "answers"]


def test_not_applicable_gates_need_no_proof(world):
    suite = world("FAULTS = [Fault('one', lambda c: touch(c, 'broken'))]")
    suite.gates["data"]["absent"] = {"not_applicable": "no cluster here"}
    assert suite.run("--prove") == 0


def test_the_prove_profile_must_be_declared(world):
    suite = world("FAULTS = []")
    del suite.profiles["prove"]
    assert suite.run("--prove") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_proof_mends_what_it_planted(suite, tmp_path, number):
    state = tmp_path / "state"
    state.mkdir()
    body = f"""
    STATE = Path({str(state)!r})

    def measure(ctx):
        if (STATE / "broken").exists():
            (STATE / "measuring").touch()
            time.sleep(60)
        return Observation({{"x": Measurement(0.9, 100)}})

    @contextlib.contextmanager
    def plant(ctx):
        (STATE / "broken").touch()
        try:
            yield
        finally:
            (STATE / "mending").touch()
            time.sleep(1)
            (STATE / "broken").unlink()
            (STATE / "mended").touch()

    FAULTS = [Fault("one", plant)]
    """
    suite.gate("alpha", body)
    process = suite.spawn("--prove")
    for step in ("measuring", "mending"):
        deadline = time.monotonic() + 30
        while not (state / step).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)  # a second one must not cut the mending short
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert (state / "mended").exists()
    assert not (state / "broken").exists()
    assert suite.report["interrupted"]
    assert suite.report["verdict"] == "NO-GO"


def numbers(value, n):
    return f"""
    STATE = Path(os.environ["PROOF_STATE"])

    def measure(ctx):
        broken = (STATE / "broken").exists()
        return Observation({{"x": Measurement({value} if broken else 0.9, {n} if broken else 100)}})

    @contextlib.contextmanager
    def plant(ctx):
        (STATE / "broken").touch()
        yield
        (STATE / "broken").unlink()
    """


@pytest.mark.parametrize(
    ("value", "n", "fault", "proven"),
    [
        ("0.1", 100, "Fault('one', plant)", True),
        ("0.1", 3, "Fault('one', plant)", False),
        ("float('nan')", 100, "Fault('one', plant)", False),
        ("0.1", 3, "Fault('one', plant, expected='x: n = 3')", True),
        ("0.1", 100, "Fault('one', plant, expected='y: ')", False),
    ],
)
def test_red_is_a_value_that_crosses_its_limit_or_the_reason_that_the_fault_declares(
    suite, tmp_path, monkeypatch, value, n, fault, proven
):
    monkeypatch.setenv("PROOF_STATE", str(tmp_path))
    suite.gate("alpha", numbers(value, n) + f"\n    FAULTS = [{fault}]\n")
    suite.profiles["prove"] = {"bound": "point", "n_min_share": 1}
    assert suite.run("--prove") == (0 if proven else 1)
    assert proofs(suite) == [("pass", "fail", "pass", proven)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_fault_is_planted_takes_it_out_again(suite, tmp_path, number):
    state = tmp_path / "state"
    state.mkdir()
    body = f"""
    STATE = Path({str(state)!r})

    class Plant:
        def __enter__(self):
            (STATE / "broken").touch()
            os.kill(os.getpid(), {int(number)})
            time.sleep(0.1)  # the signal is here, the fault not yet registered

        def __exit__(self, *_):
            (STATE / "broken").unlink()
            (STATE / "mended").touch()

    def measure(ctx):
        return Observation({{"x": Measurement(0.9, 100)}})

    FAULTS = [Fault("one", lambda ctx: Plant())]
    """
    suite.gate("alpha", body)
    process = suite.spawn("--prove")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert (state / "mended").exists()
    assert not (state / "broken").exists()
    assert suite.report["interrupted"]

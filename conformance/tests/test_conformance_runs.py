"""Whole runs over fake gates: status, verdict, exit code, report."""

import json
import signal
import time

import pytest

VALUE = """
def measure(ctx):
    return Observation({{"x": Measurement({value}, {n}, {low}, {high})}})
"""


def value(value=0.9, n=100, low=0.87, high=0.93):
    return VALUE.format(value=value, n=n, low=low, high=high)


def test_green_is_go(suite, green):
    suite.gate("alpha", green)
    assert suite.run() == 0
    assert suite.report["verdict"] == "GO"
    assert suite.report["complete"]
    assert suite.result("alpha")["status"] == "pass"


@pytest.mark.parametrize(
    "body",
    [
        value(value=0.5),
        value(value="float('nan')"),
        value(value="float('inf')"),
        value(value="None"),
        value(n=0),
        value(n=9),
        value(n="None"),
        "def measure(ctx): return Observation({})",
        "def measure(ctx): return Observation({'y': Measurement(1.0, 100)})",
        "def measure(ctx): return Observation({'x': None})",
    ],
)
def test_a_missing_or_wrong_value_is_a_failure(suite, body):
    suite.gate("alpha", body)
    assert suite.run() == 1
    assert suite.result("alpha")["status"] == "fail"
    assert "x:" in suite.result("alpha")["reason"]
    assert suite.report["verdict"] == "NO-GO"


@pytest.mark.parametrize("low", ["None", "float('nan')", "0.8"])
def test_a_bound_that_is_asked_for_must_be_there_and_hold(suite, low):
    metrics = {"x": {"min": 0.85, "bound": "low", "n_min": 10}}
    suite.gate("alpha", value(low=low), slo={"required": True, "metrics": metrics})
    assert suite.run() == 1
    assert suite.result("alpha")["status"] == "fail"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def measure(ctx): raise ProbeError('no answer')", "no answer"),
        ("def measure(ctx): raise ProbeError", "without a message"),
        ("def measure(ctx): 1 / 0", "ZeroDivisionError"),
        ("def measure(ctx): raise SystemExit(0)", "SystemExit"),
        ("def measure(ctx): return None", "NoneType"),
        ("def measure(ctx): return Observation({'x': 0.99})", "x: not a Measurement"),
        ("def measure(ctx): ctx.parameter('absent')", "no parameter absent"),
        ("def measure(ctx): ctx.evidence.write('../x.txt', 'x')", "outside the evidence folder"),
    ],
)
def test_a_probe_that_breaks_is_an_error(suite, body, reason):
    suite.gate("alpha", body)
    assert suite.run() == 1
    assert suite.result("alpha")["status"] == "error"
    assert reason in suite.result("alpha")["reason"]


def test_skipping_is_not_passing(suite, green):
    suite.gate("alpha", "import pytest\ndef measure(ctx): pytest.skip('not today')")
    assert suite.run() == 2
    suite.gate("beta", green)
    assert suite.run() == 1
    assert suite.report["blockers"] == ["alpha"]
    assert suite.report["counts"]["not-reached"] == 1


def test_a_timeout_is_an_error_even_if_the_gate_swallows_exceptions(suite, green):
    body = """
    def measure(ctx):
        while True:
            try:
                time.sleep(60)
            except Exception:
                pass
    """
    slo = {"required": True, "timeout_seconds": 0.3, "metrics": {"x": {"min": 0}}}
    suite.gate("alpha", body, slo=slo)
    suite.gate("beta", green)
    assert suite.run() == 1
    assert suite.result("alpha")["status"] == "error"
    assert suite.result("alpha")["reason"] == "timeout: no result after 0.3 s"
    assert suite.result("beta")["status"] == "pass"


@pytest.mark.parametrize(
    ("declare", "reason"),
    [
        ("import does_not_exist", "ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("GATE = None", "no GATE"),
        ("GATE = Gate('beta', Phase.DATA, '', '', measure)", "GATE.id is beta"),
        ("GATE = Gate('alpha', Phase.INTELLIGENCE, '', '', measure)", "GATE.phase is"),
    ],
)
def test_a_broken_module_is_an_error_that_blocks(suite, green, declare, reason):
    suite.gate("alpha", green, declare=declare)
    suite.gate("gamma", green)
    assert suite.run() == 1
    assert suite.result("alpha")["status"] == "error"
    assert reason in suite.result("alpha")["reason"]
    assert suite.result("gamma")["status"] == "pass"


def test_a_gate_and_its_numbers_need_each_other(suite, green):
    suite.gate("alpha", green)
    suite.gate("unnamed", green, slo=False)
    suite.gates["data"]["ghost"] = {"required": True, "metrics": {"x": {"min": 0}}}
    assert suite.run() == 1
    assert "no module measures it" in suite.result("ghost")["reason"]
    assert "does not name it" in suite.result("unnamed")["reason"]
    assert suite.report["blockers"] == ["ghost", "unnamed"]


def test_a_gate_in_another_phase_than_its_numbers_is_an_error(suite, green):
    suite.gate("alpha", green)
    suite.gates = {"intelligence": suite.gates["data"]}
    assert suite.run() == 1
    assert "has it in intelligence" in suite.result("alpha")["reason"]


def test_not_applicable_is_shown_and_never_passed(suite, green):
    suite.gate("alpha", green)
    suite.gates["data"]["absent"] = {"not_applicable": "no cluster here"}
    assert suite.run() == 0
    assert suite.result("absent")["status"] == "not-applicable"
    assert suite.report["counts"] == {
        "pass": 1,
        "fail": 0,
        "error": 0,
        "not-applicable": 1,
        "not-reached": 0,
    }


def test_nothing_to_measure_is_no_verdict(suite):
    suite.gates = {"data": {"absent": {"not_applicable": "no cluster here"}}}
    assert suite.run() == 2
    assert not (suite.report_folder / "report.json").exists()


def test_no_gates_at_all_is_no_verdict(suite):
    assert suite.run() == 2


def test_a_failed_phase_blocks_the_next(suite, green):
    suite.gate("alpha", value(value=0.1), phase="data")
    suite.gate("beta", green, phase="intelligence")
    assert suite.run() == 1
    assert suite.result("beta")["status"] == "error"
    assert suite.result("beta")["reason"] == "blocked by alpha"
    assert suite.run("--keep-going") == 1
    assert suite.result("beta")["status"] == "pass"
    assert suite.report["verdict"] == "NO-GO"


def test_a_gate_that_is_not_required_does_not_block(suite, green):
    optional = {
        "required": False,
        "reason": "measured for information",
        "metrics": {"x": {"min": 0.85}},
    }
    suite.gate("alpha", value(value=0.1), slo=optional)
    suite.gate("beta", green, phase="intelligence")
    assert suite.run() == 0
    assert suite.result("alpha")["status"] == "fail"


def test_less_than_everything_is_no_plain_go_on_the_console_either(suite, green, capfd):
    suite.gate("alpha", green)
    suite.gate("beta", green)
    for options, told in (
        ((), "GO. 2 of 2 required gates passed on local."),
        (("--phase", "data"), "GO. 2 of 2 required gates passed on local."),
        (("--gate", "beta"), "PARTIAL GO. 1 of 1"),
        (("--profile", "demo"), "DEMO SAMPLE GO. 2 of 2"),
        (("--profile", "prove"), "PROOF SAMPLE GO. 2 of 2"),
        (("--profile", "demo", "--gate", "beta"), "PARTIAL DEMO SAMPLE GO. 1 of 1"),
    ):
        assert suite.run(*options) == 0
        assert f"\n{told}" in capfd.readouterr().err
    suite.gate("alpha", value(value=0.1))
    assert suite.run("--gate", "alpha") == 1
    assert suite.report["verdict"] == "NO-GO"
    assert "\nNO-GO. 0 of 1" in capfd.readouterr().err


def test_a_report_that_cannot_be_written_is_2_whatever_was_measured(suite, tmp_path):
    body = f"""
    def measure(ctx):
        Path({str(suite.report_folder / "report.json")!r}).mkdir()
        return Observation({{"x": Measurement(0.9, 100)}})
    """
    suite.gate("alpha", body)
    process = suite.spawn()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert "cannot be written" in output
    assert "Traceback" not in output


def test_only_optional_gates_are_no_go(suite, green):
    optional = {"required": False, "reason": "information only", "metrics": {"x": {"min": 0}}}
    suite.gate("alpha", green, slo=optional)
    assert suite.run() == 1
    assert suite.report["verdict"] == "NO-GO"


def test_selection_measures_only_that_and_says_so(suite, green):
    suite.gate("alpha", value(value=0.1))
    suite.gate("beta", green)
    suite.gate("gamma", green, phase="intelligence")
    assert suite.run("--gate", "beta") == 0
    assert [g["id"] for g in suite.report["gates"]] == ["beta"]
    assert not suite.report["complete"]
    assert suite.report["verdict"] == "PARTIAL GO"
    page = (suite.report_folder / "report.html").read_text()
    assert "Part of the gates" in page
    assert '<strong class="sample">PARTIAL GO</strong>' in page
    assert suite.run("--phase", "intelligence") == 0
    assert suite.run("--gate", "delta") == 2


def test_a_metric_without_a_number_is_information(suite):
    body = """
    def measure(ctx):
        return Observation({"x": Measurement(0.9, 100), "more": Measurement(float("nan"), 0)})
    """
    suite.gate("alpha", body)
    assert suite.run() == 0
    more = suite.result("alpha")["checks"][1]
    assert (more["metric"], more["judged"], more["measured"]["value"]) == ("more", False, "nan")


def test_profiles_scale_samples_and_name_themselves(suite):
    metrics = {"x": {"min": 0.85, "bound": "low", "n_min": 100}}
    body = """
    def measure(ctx):
        return Observation({"x": Measurement(0.9, ctx.parameter("n"))})
    """
    slo = {
        "required": True,
        "metrics": metrics,
        "parameters": {"all": {"n": 100}, "demo": {"n": 10}},
    }
    suite.gate("alpha", body, slo=slo)
    assert suite.run("--profile", "demo") == 0
    assert not suite.report["complete"]
    assert suite.report["verdict"] == "DEMO SAMPLE GO"
    assert "Demo sample" in (suite.report_folder / "report.html").read_text()
    assert suite.run() == 1
    assert "low bound was not measured" in suite.result("alpha")["reason"]


def test_a_profile_must_be_declared(suite, green):
    suite.gate("alpha", green)
    del suite.profiles["demo"]
    assert suite.run("--profile", "demo") == 2


def test_shared_samples_are_made_once_with_their_own_parameters(suite, tmp_path):
    body = """
    def make(ctx):
        with Path({log!r}).open("a") as file:
            file.write("made ")
        return ctx.parameter("size")

    def measure(ctx):
        return Observation({{"x": Measurement(1.0, ctx.shared("things", make))}})
    """.format(log=str(tmp_path / "log"))
    misleading = {
        "required": True,
        "parameters": {"all": {"size": 1}},
        "metrics": {"x": {"min": 1, "n_min": 50}},
    }
    suite.gate("alpha", body, slo=misleading)
    suite.gate("beta", body, slo=misleading)
    suite.top = {"samples": {"things": {"full": {"size": 50}}}}
    assert suite.run() == 0
    assert (tmp_path / "log").read_text() == "made "


def test_a_shared_sample_that_fails_is_an_error_for_all_and_tried_once(suite, tmp_path):
    body = """
    def make(ctx):
        with Path({log!r}).open("a") as file:
            file.write("tried ")
        raise KeyError("gone")

    def measure(ctx):
        return ctx.shared("things", make)
    """.format(log=str(tmp_path / "log"))
    suite.gate("alpha", body)
    suite.gate("beta", body)
    assert suite.run() == 1
    for gate in ("alpha", "beta"):
        assert suite.result(gate)["status"] == "error"
        assert "shared sample things: KeyError" in suite.result(gate)["reason"]
    assert (tmp_path / "log").read_text() == "tried "


def test_evidence_is_kept_listed_and_sealed(suite):
    body = """
    import numpy as np
    def measure(ctx):
        ctx.evidence.write("rows.jsonl", ({"n": n, "v": np.float32(n)} for n in range(3)))
        ctx.evidence.write("all.json", {"nan": float("nan"), "set": {2, 1}, "array": np.arange(2)})
        ctx.evidence.write("note.txt", "text")
        raise ProbeError("after the evidence")
    """
    suite.gate("alpha", body)
    stale = suite.report_folder / "evidence" / "old" / "x.txt"
    stale.parent.mkdir(parents=True)
    stale.write_text("an earlier run")
    assert suite.run() == 1
    folder = suite.report_folder / "evidence" / "alpha"
    assert (folder / "rows.jsonl").read_text().count("\n") == 3
    assert json.loads((folder / "all.json").read_text()) == {
        "nan": "nan",
        "set": [1, 2],
        "array": [0, 1],
    }
    assert "evidence/alpha/note.txt" in suite.result("alpha")["evidence"]
    assert "evidence/alpha/note.txt" in (suite.report_folder / "SHA256SUMS").read_text()
    assert not stale.exists()


def test_junit_tells_failures_from_errors(suite, green):
    suite.gate("alpha", green)
    suite.gate("beta", value(value=0.1))
    suite.gate("gamma", "def measure(ctx): raise ProbeError('no answer')")
    suite.gates["data"]["absent"] = {"not_applicable": "no cluster here"}
    suite.run()
    junit = (suite.report_folder / "junit.xml").read_text()
    assert 'errors="1" failures="1" skipped="1" tests="4"' in junit
    assert "no answer" in junit
    assert "  junit.xml\n" in (suite.report_folder / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.target.pop("gateway_url"), "gateway_url"),
        (lambda s: s.target.update(guard_url="unix:/nowhere/guard.sock"), "cannot be reached"),
        (lambda s: s.target.update(llm_url="http://127.0.0.1:1"), "llm_url"),
        (lambda s: s.target.update(environment="moon"), "numbers of local"),
        (lambda s: s.target.pop("environment"), "not a target description"),
        (lambda s: s.top.update(environment="Local"), "slo.yaml:1: environment"),
    ],
)
def test_a_suite_that_cannot_run_exits_2_with_the_reason(suite, green, capfd, change, told):
    suite.gate("alpha", green)
    change(suite)
    assert suite.run() == 2
    assert told in "".join(capfd.readouterr())
    assert not (suite.report_folder / "report.json").exists()


def test_a_missing_target_and_a_bad_key_and_corpus_are_told_before_measuring(suite, green, capfd):
    suite.gate("alpha", green)
    assert suite.run("--target", str(suite.folder / "none.json")) == 2
    assert "start the platform first" in "".join(capfd.readouterr())
    assert suite.run("--signing-key", str(suite.folder / "slo.yaml")) == 2
    assert "signing key" in "".join(capfd.readouterr())
    assert suite.run("--corpus", str(suite.folder)) == 2
    assert "documents.jsonl" in "".join(capfd.readouterr())


def test_a_report_folder_that_cannot_be_written_is_2(suite, green, capfd):
    suite.gate("alpha", green)
    (suite.folder / "file").write_text("")
    assert suite.run("--report", str(suite.folder / "file" / "report")) == 2
    assert "--report" in capfd.readouterr().err


def test_duplicate_and_misplaced_gates_are_hard_errors(suite, green, capfd):
    suite.gate("alpha", green)
    twin = suite.gate("alpha", green, phase="intelligence", slo=False)
    assert suite.run() == 2
    assert "alpha is also in" in "".join(capfd.readouterr())
    twin.unlink()
    (suite.folder / "gates" / "stray.py").write_text("")
    assert suite.run() == 2
    assert "a gate belongs into" in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (value(), 0),
        (value(value=0.1), 1),
        ("def measure(ctx): raise ProbeError('x')", 1),
        ("def measure(ctx): raise KeyboardInterrupt", 2),
    ],
)
def test_exit_codes_of_the_real_command(suite, body, code):
    suite.gate("alpha", body)
    process = suite.spawn()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert suite.report["exit_code"] == code
    assert "Traceback" not in output


def test_usage_errors_are_2(suite):
    process = suite.spawn("--profile", "huge")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "invalid choice" in output


def test_sigterm_stops_the_run_with_a_report_and_2(suite, tmp_path):
    body = f"""
    def measure(ctx):
        Path({str(tmp_path / "measuring")!r}).touch()
        time.sleep(60)
    """
    suite.gate("alpha", body)
    suite.gate("beta", body)
    process = suite.spawn()
    _await(tmp_path / "measuring")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    assert suite.report["interrupted"]
    assert suite.report["verdict"] == "NO-GO"
    assert suite.report["counts"]["not-reached"] == 2


def _await(path, seconds=30):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)

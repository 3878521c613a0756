import json
import signal

import httpx
import pytest
from pydantic import ValidationError

import rag_llm.__main__ as command
from rag_llm.engine import engine
from rag_llm.errors import EngineError, WarmUpError
from rag_llm.settings import Settings
from rag_llm.warmup import read_messages, warm_up


@pytest.fixture(autouse=True)
def keep_signal_handlers():
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def client(handler):
    return httpx.Client(base_url="http://engine", transport=httpx.MockTransport(handler))


def test_warm_up_counts_the_cached_prompt():
    def handler(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content)["max_tokens"] == 1
        return httpx.Response(200, json={"usage": {"prompt_tokens": 31}})

    assert warm_up(client(handler), "m", read_messages(None)) == 31


@pytest.mark.parametrize(
    "answer", [httpx.Response(500), httpx.Response(200, json={}), httpx.Response(200, text="x")]
)
def test_a_failed_warm_up_is_an_error(answer):
    with pytest.raises(WarmUpError, match="first prompt"):
        warm_up(client(lambda _: answer), "m", read_messages(None))


def test_the_warm_up_prompt_comes_from_a_file(tmp_path):
    path = tmp_path / "prompt.json"
    path.write_text('[{"role": "user", "content": "hello"}]')
    assert read_messages(path) == [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize("text", ["{", "[1]", '[{"role": "user"}]', "3"])
def test_a_malformed_warm_up_file_names_itself(tmp_path, text):
    path = tmp_path / "prompt.json"
    path.write_text(text)
    with pytest.raises(WarmUpError, match=r"prompt\.json"):
        read_messages(path)


@pytest.mark.parametrize(
    "values", [{"llm_threads": 0}, {"llm_context_tokens": 1}, {"llm_model": " "}]
)
def test_settings_refuse_nonsense(values):
    with pytest.raises(ValidationError):
        Settings(**values)


def test_weights_that_are_none_are_refused(tmp_path):
    weights = tmp_path / "broken.gguf"
    weights.write_bytes(b"not a model")
    with (
        pytest.raises(EngineError, match=r"broken\.gguf"),
        engine(Settings(llm_context_tokens=256), weights),
    ):
        pass


def test_the_command_says_what_is_wrong_in_one_line(monkeypatch, capsys):
    monkeypatch.setenv("LLM_THREADS", "none")
    assert command.main() == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("rag-llm: LLM_THREADS:")


def test_the_command_names_a_missing_warm_up_file(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LLM_WARMUP_FILE", str(tmp_path / "absent.json"))
    assert command.main() == 1
    assert "absent.json" in capsys.readouterr().err

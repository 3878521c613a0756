"""The LLM's warm-up prompt in the manifests is the one that retrieval's prompts begin with."""

import json
from pathlib import Path

from rag_retrieval.answer.prompt import prefix

FILE = Path(__file__).parents[1] / "apps/llm/base/server/warmup.json"


def test_the_warm_up_is_what_every_prompt_begins_with():
    assert json.loads(FILE.read_text(encoding="utf-8")) == prefix(), (
        f"{FILE}: write json.dumps(rag_retrieval.answer.prompt.prefix()) into it"
    )

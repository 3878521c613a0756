"""A platform on a fake cluster whose gateway answers in this process."""

from contextlib import contextmanager
from types import SimpleNamespace

import httpx

from conformance.targets.base import RateLimit
from conformance.tests._memory_cluster import Context

QUESTIONS = [
    SimpleNamespace(id=f"q{n}", text=f"What is number {n}?", relevant=("d1",)) for n in range(5)
]
ANSWER = {"status": "answered", "answer": "It is a number.", "sentences": []}


class LiveContext(Context):
    """A context with a gateway; `respond(request)` is what it answers, a corpus is prepared."""

    def __init__(self, cluster, respond=None, **parameters):
        super().__init__(cluster, **parameters)
        corpus = SimpleNamespace(answerable=QUESTIONS, gold=QUESTIONS, documents=[1])
        self.corpus = SimpleNamespace(full=SimpleNamespace(corpus=corpus))
        self.respond = respond or (lambda request: httpx.Response(200, json=ANSWER))
        self.target.gateway = self._gateway
        self.target.rate_limit = lambda tenant: RateLimit(60000, 6000)

    def shared(self, name, make):
        assert name == "corpus"
        return self.corpus

    @contextmanager
    def _gateway(self, tenant, *, timeout=0):
        transport = httpx.MockTransport(lambda request: self.respond(request))
        with httpx.Client(transport=transport, base_url="http://gateway") as client:
            yield client

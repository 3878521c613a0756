"""Several embedding services: an index's queries go to the one that serves its model."""

import pytest

from rag_common.embeddings import Embeddings
from rag_retrieval.deadline import Deadline
from rag_retrieval.embedding_client import EmbeddingClients
from rag_retrieval.errors import ModelMismatchError, UpstreamUnavailableError


class Client:
    """Serves one model, or raises."""

    def __init__(self, digest="", error=None):
        self.digest, self.error, self.calls, self.closed = digest, error, 0, False

    async def embed(self, texts, **options):
        assert "digest" not in options
        self.calls += 1
        if self.error:
            raise self.error
        return Embeddings([], self.digest)

    async def ready(self, timeout):
        await self.embed([])

    async def close(self):
        self.closed = True


async def asked(clients, digest):
    answer = await EmbeddingClients(clients).embed(["q"], deadline=Deadline.after(5), digest=digest)
    return answer.model_digest


async def test_the_first_answers_what_no_index_asks_for():
    clients = [Client("a"), Client("b")]
    assert await asked(clients, None) == "a"
    assert await asked(clients, "a") == "a"
    assert clients[1].calls == 0


async def test_an_index_of_the_other_model_is_remembered():
    clients = [Client("a"), Client("b")]
    service = EmbeddingClients(clients)
    for _ in range(3):
        answer = await service.embed(["q"], deadline=Deadline.after(5), digest="b")
        assert answer.model_digest == "b"
    assert (clients[0].calls, clients[1].calls) == (1, 3)


async def test_a_model_that_nobody_serves_is_left_to_the_caller():
    assert await asked([Client("a"), Client("b")], "c") == "a"
    gone = Client(error=UpstreamUnavailableError("embedder", "refused"))
    assert await asked([Client("a"), gone], "c") == "a"


async def test_a_name_that_nobody_serves_is_a_mismatch():
    other = Client(error=ModelMismatchError("embedder", "another name"))
    with pytest.raises(ModelMismatchError):
        await asked([other, Client("a")], "c")
    assert await asked([other, Client("c")], "c") == "c"


async def test_a_service_that_is_down_is_not_hidden_by_another():
    gone = Client(error=UpstreamUnavailableError("embedder", "refused"))
    with pytest.raises(UpstreamUnavailableError):
        await asked([gone, Client("b")], "a")


async def test_readiness_is_the_firsts_and_all_are_closed():
    clients = [Client("a"), Client(error=UpstreamUnavailableError("embedder", "refused"))]
    service = EmbeddingClients(clients)
    await service.ready(1)
    await service.close()
    assert all(client.closed for client in clients)

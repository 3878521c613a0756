import pytest

from rag_common.files import Credentials
from rag_store import open_admin, open_store
from rag_store.base import StoreAdmin, StoreError, VectorStore
from rag_store.pgvector import bootstrap


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:secret@host/db",
        "postgresql://user@host/db",
        "postgresql:///db?host=/run&password=secret",
        "qdrant://:secret@host:6333",
        "qdrant://host?api_key=secret",
    ],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url, credentials):
    for opened in (open_store, open_admin):
        with pytest.raises(StoreError, match="credentials file") as caught:
            opened(url, credentials)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://host", "nothing", ""])
def test_an_unknown_scheme_is_refused(url, credentials):
    for opened in (open_store, open_admin):
        with pytest.raises(StoreError, match="postgresql, qdrant"):
            opened(url, credentials)


@pytest.mark.parametrize(
    "url",
    ["postgresql://host:5432/db", "postgresql:///db?host=/run", "qdrant://h", "qdrants://[::1]:1"],
)
async def test_the_scheme_picks_the_store(url, credentials):
    store, admin = open_store(url, credentials), open_admin(url, credentials)
    assert isinstance(store, VectorStore)
    assert isinstance(admin, StoreAdmin)
    await store.close()
    await admin.close()


def test_bootstrap_wants_exactly_the_three_logins():
    with pytest.raises(StoreError, match="rag_reader, rag_writer, rag_admin"):
        bootstrap("postgresql:///rag", [Credentials("rag_reader", "x")])

"""`rag-onboard`: every tenant of the list has its place; what is wrong is said."""

import asyncio

import pytest
from click.testing import CliRunner

from rag_store import open_admin, open_store
from rag_store.onboard import main


@pytest.fixture
def run(database, tmp_path):
    def call(text, url=database.url):
        listed = tmp_path / "tenants.txt"
        listed.write_text(text)
        credentials = database.credentials["rag_admin"]
        words = [str(listed), "--url", url, "--credentials", str(credentials)]
        return CliRunner().invoke(main, words)

    return call


def test_every_tenant_of_the_list_is_there_also_the_second_time(run, database):
    async def tenants():
        store = open_store(database.url, database.credentials["rag_reader"])
        try:
            return await store.tenants()
        finally:
            await store.close()

    for _ in range(2):
        done = run("onboard-a\nonboard-b\n")
        assert (done.exit_code, done.output.count("ready")) == (0, 2), done.output
    assert {"onboard-a", "onboard-b"} <= set(asyncio.run(tenants()))

    async def remove():
        admin = open_admin(database.url, database.credentials["rag_admin"])
        for name in ("onboard-a", "onboard-b"):
            await admin.deprovision(name)
        await admin.close()

    asyncio.run(remove())


@pytest.mark.parametrize("text", ["", "Not A Tenant\n", "ok\n../x\n"])
def test_a_list_without_tenants_or_with_a_wrong_name_is_refused_before_anything_is_made(run, text):
    assert run(text).exit_code == 2


def test_a_store_that_does_not_answer_is_an_error(run):
    done = run("onboard-a\n", url="postgresql://127.0.0.1:1/rag")
    assert done.exit_code == 1
    assert "127.0.0.1" in done.output or "store" in done.output.lower()

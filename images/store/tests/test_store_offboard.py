"""A tenant that left: nothing of it is there, others stay, and what is left is an error."""

import asyncio

import pytest
from click.testing import CliRunner

from rag_store import onboard, open_admin
from rag_store.pgvector.admin import PgvectorAdmin


@pytest.fixture
def run(database, tmp_path):
    listed = tmp_path / "tenants.txt"

    def call(text):
        listed.write_text(text)
        login = ["--url", database.url, "--credentials", str(database.credentials["rag_admin"])]
        return CliRunner().invoke(onboard.main, [str(listed), *login])

    assert call("leaving\nstaying\n").exit_code == 0
    yield call
    asyncio.run(clean(database))


async def clean(database):
    admin = open_admin(database.url, database.credentials["rag_admin"])
    for name in ("leaving", "staying"):
        await admin.deprovision(name)
    await admin.close()


def remains(database, tenant):
    async def ask():
        admin = open_admin(database.url, database.credentials["rag_admin"])
        try:
            return await admin.remains(tenant)
        finally:
            await admin.close()

    return asyncio.run(ask())


def test_who_left_is_removed_and_looked_for(run, database):
    assert len(remains(database, "leaving")) == 3  # a schema and two roles
    done = run("staying\n-leaving\n")
    assert done.exit_code == 0, done.output
    assert done.output.count(": to be removed") == 3
    assert done.output.endswith("tenant leaving: nothing is left\n")
    assert remains(database, "leaving") == []
    assert len(remains(database, "staying")) == 3
    assert run("staying\n-leaving\n").exit_code == 0


def test_what_is_left_is_an_error(run, monkeypatch):
    async def nothing(self, tenant):
        pass

    monkeypatch.setattr(PgvectorAdmin, "deprovision", nothing)
    done = run("staying\n-leaving\n")
    assert done.exit_code == 1
    assert "still there: role" in done.output


@pytest.mark.parametrize("text", ["staying\n-Not A\n", "staying\n-../x\n", "-leaving\n", "a\n-a\n"])
def test_what_makes_no_sense_is_refused_before_anything_is_removed(run, database, text):
    assert run(text).exit_code == 2
    assert len(remains(database, "leaving")) == 3

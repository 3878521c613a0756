"""The store's pods and the vault's database engine, rehearsed as processes with the real scripts."""

import json
import os
import subprocess
import sys
import time

import psycopg
import pytest

from conformance.gates.intelligence._compromise import data
from conformance.static import environment
from conformance.static.environment import ROOT
from conformance.targets.kube.scripts import sql_raid
from conformance.tests import _openbao
from conformance.tests._powers import declared_for
from conformance.tests._store_pods import CONFIG, Pod, credentials, free_port, workplace

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]
STATIC = ("rag-reader", "rag-writer", "rag-admin", "backup", "replica")
GENERATOR = ROOT / "platform/secrets/lab/generator"


def test_the_servers_prepare_the_database_as_the_library_does():
    ours = ROOT / "images/store/src/rag_store/pgvector/bootstrap.sql"
    assert (CONFIG / "bootstrap.sql").read_text() == ours.read_text()


def _script(bao, folder, script, role, **more):
    """Run a Job's script; its login, which takes a cluster, answers with a token of the same policy."""
    shim = folder / "vault"
    shim.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *auth/kubernetes/login*) echo {bao.token(role)} ;;'
        f' *) exec {bao.program} "$@" ;; esac\n'
    )
    shim.chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    given = {"PATH": path, "VAULT_ADDR": bao.address, "HOME": str(folder), "TOKEN_AUDIENCE": "x"}
    done = subprocess.run(
        ["sh", ROOT / script], env={**os.environ, **given, **more}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder():
    with workplace() as made:
        yield made


@pytest.fixture(scope="module")
def bao(folder):
    with _openbao.running(folder) as server:
        sys.path.insert(0, str(GENERATOR))
        try:
            import generate
        finally:
            sys.path.remove(str(GENERATOR))
        vault = generate.Vault(server.address, None, server.token("secret-generator"))
        generate.generate(vault)
        access = ROOT / "platform/secrets/base/access"
        _script(server, folder, access / "apply.sh", "vault-access", ACCESS=str(access))
        yield server


@pytest.fixture(scope="module")
def primary(folder, bao):
    pod = Pod(folder / "primary", free_port(), "primary.sh")
    pod.prepare()
    pod.secret("vault-password", bao.secret("rag-vectordb/vectordb/vault-login")["password"])
    pod.start()
    yield pod
    pod.stop()


def rotation(bao, folder, primary, period="24h"):
    store = f"127.0.0.1:{primary.port}"
    script = "apps/vectordb/base/rotation/rotate.sh"
    _script(bao, folder, script, "vault.rotation", STORE=store, ROTATION_PERIOD=period)


@pytest.fixture(scope="module")
def rotated(bao, folder, primary):
    """The vault owns every login."""
    rotation(bao, folder, primary)
    return lambda role: bao.read(f"database/static-creds/{role}")


def test_the_first_password_is_useless_once_the_vault_has_its_own(bao, primary, rotated):
    first = bao.secret("vault/rotation/vault-login")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        primary.connect(**first)


def test_every_login_is_the_vaults_and_no_password_is_in_the_log(primary, rotated):
    logins = [rotated(role) for role in STATIC]
    for login in logins[:-1]:
        with primary.connect(login["username"], login["password"]) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (login["username"],)
    log = (primary.root / "log").read_text()
    assert not [login["username"] for login in logins if login["password"] in log]


def test_an_account_reads_its_own_login_only(bao, rotated):
    readers = {
        "rag-retrieval.retrieval": "rag-reader",
        "rag-ingestion.ingestion": "rag-writer",
        "rag-vectordb.onboarding": "rag-admin",
        "rag-vectordb.backup": "backup",
        "rag-vectordb.replica": "replica",
        "vault.rotation": None,
        "rag-llm.llm": None,
    }
    for account, own in readers.items():
        token = bao.token(account)
        for role in STATIC:
            if role == own:
                assert bao.read(f"database/static-creds/{role}", token=token)["password"]
            else:
                with pytest.raises(AssertionError, match="permission denied"):
                    bao.read(f"database/static-creds/{role}", token=token)


def test_the_job_runs_again_without_harm(bao, folder, primary, rotated):
    before = rotated("rag-reader")["password"]
    rotation(bao, folder, primary)
    after = rotated("rag-reader")
    assert after["password"] == before
    primary.connect(after["username"], after["password"]).close()


def test_the_network_has_no_superuser_and_no_other_database(primary, rotated):
    login = rotated("rag-reader")
    with pytest.raises(psycopg.OperationalError, match="pg_hba.conf rejects"):
        primary.connect("postgres", "x")
    with pytest.raises(psycopg.OperationalError, match="pg_hba.conf rejects"):
        primary.connect(login["username"], login["password"], database="postgres")


@pytest.fixture(scope="module")
def tenants(folder, primary, rotated):
    """Two tenants, onboarded as the Job does it."""
    listed = folder / "tenants.txt"
    listed.write_text("one\ntwo\n")
    admin = credentials(folder / "admin.json", rotated("rag-admin"))
    words = ["-c", "from rag_store.onboard import main; main()", str(listed)]
    words += ["--url", primary.url(), "--credentials", str(admin)]
    subprocess.run([sys.executable, *words], check=True)
    return ("one", "two")


def test_backup_reads_every_tenant_and_writes_nothing(primary, rotated, tenants):
    login = rotated("backup")
    with primary.connect(login["username"], login["password"]) as connection:
        for tenant in tenants:
            connection.execute(f"SELECT count(*) FROM tenant_{tenant}.generation")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM tenant_one.generation")


@pytest.mark.parametrize(
    ("role", "who"),
    [
        ("rag-reader", "rag-retrieval/retrieval"),
        ("rag-writer", "rag-ingestion/ingestion"),
        ("rag-admin", "rag-vectordb/onboarding"),
        ("backup", "rag-vectordb/backup"),
        ("replica", "rag-vectordb/replica"),
    ],
)
def test_a_stolen_login_is_good_for_what_is_declared(
    role, who, primary, rotated, tenants, tmp_path
):
    login = rotated(role)
    if role in ("backup", "replica"):
        text = f"*:*:*:{login['username']}:{login['password']}"
        (tmp_path / "pgpass").write_text(text)
    else:
        credentials(tmp_path / "store.json", login)
    order = {"host": "127.0.0.1", "port": primary.port, "attempts": data.SQL}
    (told,) = sql_raid.raid(order, tmp_path)
    worked = {what for what, outcome in told["told"].items() if outcome and outcome[0]}
    worked -= {"connect", f"become {login['username']}"}
    assert worked == declared_for(who, "sql"), told["told"]


def test_the_vault_can_set_passwords_and_read_no_tenant(bao, primary, tenants):
    primary.sql("ALTER ROLE vault PASSWORD 'known-to-this-test-only'")
    with primary.connect("vault", "known-to-this-test-only") as connection:
        connection.execute("ALTER ROLE rag_reader PASSWORD 'x'")
        for statement in ("SELECT * FROM tenant_one.generation", "SET ROLE rag_writer"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("ALTER ROLE postgres PASSWORD 'x'")


def test_a_store_that_lost_the_vaults_password_is_given_back_by_its_first_one(
    bao, folder, primary, rotated
):
    """As after the loss of the vault: a new first password, then the Job."""
    primary.stop()
    bao.run("delete", "database/config/vectordb")
    bao.run(
        "kv", "put", "-mount=secret", "vault/rotation/vault-login", "password=another-first-one"
    )
    primary.secret("vault-password", "another-first-one")
    primary.start()
    rotation(bao, folder, primary)
    login = rotated("rag-reader")
    bao.run("write", "-f", "database/rotate-role/rag-reader")
    login = rotated("rag-reader")
    primary.connect(login["username"], login["password"]).close()


def _template(path):
    """The template that a pod of the lab has for a login, from its manifest."""
    marker = "vault.hashicorp.com/agent-inject-template-"
    for item in environment.load("lab").objects:
        spec = item.get("spec") or {}
        template = (spec.get("template") or {}).get("metadata") or {}
        for key, text in (template.get("annotations") or {}).items():
            if key.startswith(marker) and f'"{path}"' in text:
                return text
    raise AssertionError(f"no pod has a template of {path}")


def _period(bao, period):
    words = ("db_name=vectordb", "username=rag_reader", f"rotation_period={period}")
    bao.run("write", "database/static-roles/rag-reader", *words)


def test_a_rotated_login_reaches_a_running_pool_through_the_agents_file(
    bao, folder, primary, rotated
):
    """The agent renders what the manifest says; every rotation is in the file within seconds."""
    (folder / "token").write_text(bao.token("rag-retrieval.retrieval"))
    (folder / "reader.ctmpl").write_text(_template("database/static-creds/rag-reader"))
    rendered = folder / "rendered.json"
    (folder / "agent.hcl").write_text(
        f'vault {{ address = "{bao.address}" }}\n'
        'auto_auth {\n method {\n  type = "token_file"\n'
        f'  config = {{ token_file_path = "{folder}/token" }}\n }}\n}}\n'
        f'template {{\n source = "{folder}/reader.ctmpl"\n destination = "{rendered}"\n}}\n'
    )
    _period(bao, "5s")
    with (folder / "agent.log").open("w") as log:
        agent = subprocess.Popen(
            [bao.program, "agent", f"-config={folder}/agent.hcl"],
            env={**os.environ, "HOME": str(folder)},
            stdout=log,
            stderr=log,
        )
    try:
        seen = set()
        deadline = time.monotonic() + 60
        while len(seen) < 3:
            assert time.monotonic() < deadline, (folder / "agent.log").read_text()[-2000:]
            time.sleep(0.2)
            if not rendered.exists():
                continue
            login = json.loads(rendered.read_text())
            if login["password"] in seen:
                continue
            try:
                primary.connect(**login).close()
            except psycopg.OperationalError:
                continue  # rotated between the file and the call: the next one has to work
            seen.add(login["password"])
    finally:
        agent.terminate()
        agent.wait(10)
        _period(bao, "24h")


@pytest.fixture
def replica(folder, primary, rotated):
    pod = Pod(folder / "replica", free_port(), "replica.sh", primary.port, {"POD_NAME": "r-0"})
    pod.prepare()
    _pgpass(pod, rotated)
    pod.start()
    yield pod
    pod.stop()


def _pgpass(pod, rotated):
    login = rotated("replica")
    (pod.secrets / "pgpass").unlink(missing_ok=True)
    pod.secret("pgpass", f"*:*:*:{login['username']}:{login['password']}")


def test_a_replica_follows_also_after_a_rotation_and_a_restart_of_the_primary(
    bao, primary, replica, rotated
):
    primary.sql("CREATE TABLE public.followed (n int); INSERT INTO public.followed VALUES (1)")
    count = "SELECT count(*) FROM pg_class WHERE relname = 'followed'"
    replica.wait(lambda: replica.sql(count) == "1", "follows")
    assert replica.sql("SELECT pg_is_in_recovery()") == "t"
    bao.run("write", "-f", "database/rotate-role/replica")
    _pgpass(replica, rotated)
    primary.stop()
    primary.start()
    primary.sql("INSERT INTO public.followed VALUES (2)")
    rows = "SELECT count(*) FROM public.followed"
    replica.wait(lambda: replica.sql(rows) == "2", "follows after the rotation")
    primary.sql("DROP TABLE public.followed")


def test_no_acknowledged_write_is_lost_when_the_whole_pod_is_killed(primary, rotated, tenants):
    primary.sql("CREATE TABLE public.kept AS SELECT 1 AS n")
    for n in range(2, 11):
        primary.sql(f"INSERT INTO public.kept VALUES ({n})")
    primary.kill()
    primary.start()
    assert primary.sql("SELECT count(*) FROM public.kept") == "10"
    primary.sql("DROP TABLE public.kept")

"""no-plain-secrets: what counts as a credential, where it is looked for, and etcd's files."""

import base64
import json
import subprocess
import sys

import pytest

from conformance.gate import ProbeError
from conformance.gates.foundation import _credentials, _etcd, _operated, _places, no_plain_secrets
from conformance.static.environment import ROOT
from conformance.targets.kube import pods
from conformance.targets.kube.scripts import search
from conformance.tests._memory_cluster import Context, MemoryCluster, named, values

PEM = "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA1234567890\n"
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIEowIBAAKCAQEA\n-----END CERTIFICATE-----\n"
JWT = "eyJhbGciOiJFUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTYifQ." + "c2lnbmF0dXJlLXNpZ25hdHVyZQ"


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        JWT,
        "key: AKIA" + "ABCDEFGHIJKLMNOP",
        "hvs." + "CAESIJlWh2o8Zk3q9ab0cdefgh",
        "postgresql://rag:" + "hunter2@db:5432/rag",
    ],
)
def test_a_credential_is_known_by_its_shape(text):
    assert next(iter(_credentials.shaped(f"first\n{text}"))).startswith("line 2: ")


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://rag:${PASSWORD}@db/rag",
        "postgresql://db:5432/rag",
        "-----BEGIN CERTIFICATE-----\nMIIEowIBAAKCAQEA1234567890\n",
        "see https://example.org/a:b",
    ],
)
def test_what_only_looks_like_one_is_none(text):
    assert not list(_credentials.shaped(text))


def test_an_example_in_a_url_is_let_through_where_examples_are_expected():
    text = "redis://user:secret@cache"
    assert not list(_credentials.shaped(text, ["secret"]))
    assert list(_credentials.shaped(text))


@pytest.mark.parametrize(
    "text",
    [
        "password: hunter2",
        '{"store": {"api_key": "hunter2"}}',
        "export DB_PASSWORD=hunter2",
        "a: {b: [{client_secret: hunter2}]}",
        "token = 'hunter2'",
        "pin_password: 1234",
    ],
)
def test_a_credential_is_known_by_its_name(text):
    assert list(_credentials.configured("file", text))


@pytest.mark.parametrize(
    "text",
    [
        "password: ${PASSWORD}",
        "password_file: /vault/secrets/password",
        "password: /vault/secrets/password",
        "token_audience: https://kubernetes",
        "token: ''",
        "secret: true",
        "password: {{ .Values.password }}",
        "tokens: 100",
    ],
)
def test_a_name_without_a_value_of_its_own_is_none(text):
    assert not list(_credentials.configured("file", text))


def test_the_name_of_an_entry_counts():
    assert list(_credentials.configured("DB_PASSWORD", "hunter2"))
    assert not list(_credentials.configured("DB_PASSWORD_FILE", "/vault/secrets/x"))


def namespaces(*names):
    return [named("Namespace", name) for name in names]


def found(looked):
    return [where for where, why in looked if why]


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ('PASSWORD = "hunter2"', True),
        ('login(user="a", api_key="hunter2")', True),
        ('login = {"password": "hunter2"}', True),
        ("password: str = 'hunter2'", True),
        ("PASSWORD = hunter2 hunter2", True),  # not Python
        ("password = value('cache').hex()", False),
        ("def check(password: str, token): self.token = token", False),
    ],
)
def test_code_has_a_credential_where_it_has_the_string(code, written):
    assert bool(list(_credentials.configured("generate.py", code))) is written


def test_a_path_of_the_vault_is_no_credential():
    text = "vault.hashicorp.com/agent-inject-secret-api-key: database/static-creds/rag-reader"
    assert not list(_credentials.configured("deployment.yaml", text))


def test_the_layers_are_those_of_the_design_and_at_least_one():
    cluster = MemoryCluster(*namespaces("rag-llm", "gateway", "monitoring"))
    assert _places.layers(cluster) == ["rag-llm", "gateway"]
    with pytest.raises(ProbeError, match="no namespace rag-"):
        _places.layers(MemoryCluster(*namespaces("default")))


def secret(name, kind="Opaque", annotations=None, **data):
    more = {"annotations": annotations} if annotations else {}
    coded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return named("Secret", name, "rag-llm", type=kind, data=coded, **more)


def certificate(name, secret_name):
    api = "cert-manager.io/v1"
    return named("Certificate", name, "rag-llm", api, spec={"secretName": secret_name})


@pytest.mark.parametrize(
    ("item", "good"),
    [
        (secret("empty"), True),
        (secret("authority", **{"ca.crt": CERTIFICATE + CERTIFICATE}), True),
        (secret("authority", **{"ca.crt": CERTIFICATE + PEM}), False),
        (secret("password", password="x"), False),
        (secret("token", "kubernetes.io/service-account-token", token="x"), False),
        (secret("tls", "kubernetes.io/tls", **{"tls.key": "x"}), False),
        (
            secret(
                "tls",
                "kubernetes.io/tls",
                {"cert-manager.io/certificate-name": "web"},
                **{"tls.key": "x"},
            ),
            True,
        ),
        (
            secret(
                "tls",
                "kubernetes.io/tls",
                {"cert-manager.io/certificate-name": "other"},
                **{"tls.key": "x"},
            ),
            False,
        ),
        (
            secret(
                "tls", "kubernetes.io/tls", {"cert-manager.io/certificate-name": "web"}, more="x"
            ),
            False,
        ),
        (
            secret(
                "tls", "Opaque", {"cert-manager.io/certificate-name": "web"}, **{"tls.key": "x"}
            ),
            False,
        ),
    ],
)
def test_only_what_cert_manager_issues_may_lie_in_a_secret(item, good):
    cluster = MemoryCluster(item, certificate("web", "tls"))
    assert (not found(_places.secrets(cluster, ["rag-llm"]))) is good


def test_without_cert_manager_nothing_is_issued():
    cluster = MemoryCluster(secret("tls", "kubernetes.io/tls", **{"tls.key": "x"}))
    cluster.missing_kinds.add("Certificate")
    assert found(_places.secrets(cluster, ["rag-llm"])) == ["Secret rag-llm/tls"]


KAFKA = ("kafka.strimzi.io/v1", "Kafka")


def exemption(**changed):
    given = {"namespace": "rag-llm", "apiVersion": KAFKA[0], "kind": KAFKA[1]}
    return {**given, "reason": "the brokers' own keys", **changed}


def owned(name, uid, api="kafka.strimzi.io/v1beta2", kind="Kafka"):
    item = secret(name, key="x")
    item["metadata"]["ownerReferences"] = [{"apiVersion": api, "kind": kind, "uid": uid}]
    return item


def under(cluster, *entries):
    return _operated.declared(Context(cluster, operated=list(entries)))


@pytest.fixture
def operated():
    """A cluster with a Kafka in the layer, and one in another namespace."""
    cluster = MemoryCluster()
    made = cluster.put(named(KAFKA[1], "log", "rag-llm", KAFKA[0]))
    cluster.elsewhere = cluster.put(named(KAFKA[1], "log", "other", KAFKA[0]))["metadata"]["uid"]
    cluster.uid = made["metadata"]["uid"]
    return cluster


def test_what_an_operators_object_owns_is_let_lie_and_mounted(operated):
    operated.put(owned("keys", operated.uid))
    operated.put(pod(volumes=[{"name": "v", "secret": {"secretName": "keys"}}]))
    exempt = under(operated, exemption())
    assert not found(_places.secrets(operated, ["rag-llm"], exempt))
    assert not found(_places.running(operated, ["rag-llm"], exempt))
    assert not found(_operated.needed(exempt))
    without = under(operated)
    assert found(_places.secrets(operated, ["rag-llm"], without))
    assert found(_places.running(operated, ["rag-llm"], without))


@pytest.mark.parametrize(
    "make",
    [
        lambda cluster: secret("keys", key="x"),
        lambda cluster: owned("keys", "an object that is gone"),
        lambda cluster: owned("keys", cluster.elsewhere),
        lambda cluster: owned("keys", cluster.uid, "kafka.example.com/v1"),
        lambda cluster: owned("keys", cluster.uid, kind="KafkaUser"),
    ],
)
def test_nobody_elses_secret_passes(operated, make):
    operated.put(make(operated))
    exempt = under(operated, exemption())
    assert found(_places.secrets(operated, ["rag-llm"], exempt)) == ["Secret rag-llm/keys"]
    assert found(_operated.needed(exempt)) == ["exemption Kafka in rag-llm"]


def test_an_exemption_holds_in_its_namespace_only(operated):
    operated.put(owned("keys", operated.uid))
    exempt = under(operated, exemption(namespace="other"))
    assert found(_places.secrets(operated, ["rag-llm"], exempt)) == ["Secret rag-llm/keys"]


def test_a_secret_that_is_good_anyway_needs_no_exemption(operated):
    item = owned("authority", operated.uid)
    item["data"] = secret("x", **{"ca.crt": CERTIFICATE})["data"]
    operated.put(item)
    exempt = under(operated, exemption())
    assert not found(_places.secrets(operated, ["rag-llm"], exempt))
    assert found(_operated.needed(exempt)) == ["exemption Kafka in rag-llm"]


def test_a_pod_that_mounts_another_secret_beside_is_found(operated):
    operated.put(owned("keys", operated.uid))
    sources = [{"secret": {"name": "keys"}}, {"secret": {"name": "other"}}]
    operated.put(pod(volumes=[{"name": "v", "projected": {"sources": sources}}]))
    exempt = under(operated, exemption())
    list(_places.secrets(operated, ["rag-llm"], exempt))
    assert found(_places.running(operated, ["rag-llm"], exempt)) == ["Pod rag-llm/p"]


def test_an_exemption_may_depend_on_what_the_cluster_chose(operated):
    assert len(under(operated, exemption(when={"overlay": "lab"}))) == 1
    assert not under(operated, exemption(when={"overlay": "cloud"}))


@pytest.mark.parametrize(
    "entry",
    ["Kafka", {"kind": "Kafka"}, exemption(reason="why"), exemption(name="keys")],
)
def test_an_exemption_says_all_and_why(operated, entry):
    with pytest.raises(ProbeError, match="operated"):
        under(operated, entry)


def test_that_nothing_is_exempt_is_written_down(operated):
    with pytest.raises(ProbeError, match="operated"):
        _operated.declared(Context(operated, operated=None))


def test_binary_entries_of_a_config_map_are_read_as_well():
    coded = base64.b64encode(b"password: hunter2").decode()
    cluster = MemoryCluster(
        named("ConfigMap", "plain", "rag-llm", data={"a": "b: c"}),
        named("ConfigMap", "binary", "rag-llm", binaryData={"x": coded}),
    )
    assert found(_places.config_maps(cluster, ["rag-llm"])) == ["ConfigMap rag-llm/binary x"]


def pod(**container):
    volumes = container.pop("volumes", [])
    spec = {"containers": [{"name": "main", **container}], "volumes": volumes}
    return named("Pod", "p", "rag-llm", spec=spec)


@pytest.mark.parametrize(
    "wrong",
    [
        {"env": [{"name": "API_KEY", "value": "hunter2"}]},
        {"env": [{"name": "URL", "value": "redis://:" + "hunter2@cache:6379"}]},
        {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {"envFrom": [{"secretRef": {"name": "s"}}]},
        {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]},
        {"args": ["--api-key=hunter2"]},
        {"command": ["sh", "-c", f"echo {JWT}"]},
    ],
)
def test_a_pod_with_a_credential_is_found(wrong):
    assert found(_places.running(MemoryCluster(pod(**wrong)), ["rag-llm"]))


def test_a_pod_with_files_of_the_vault_is_fine():
    good = pod(
        env=[{"name": "API_KEY_FILE", "value": "/vault/secrets/key"}, {"name": "EMPTY"}],
        args=["--token-file=/var/run/token", "--level=info", "serve"],
        volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}],
    )
    assert not found(_places.running(MemoryCluster(good), ["rag-llm"]))


@pytest.fixture
def checkout(tmp_path):
    def commit(**files):
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
        for name, text in files.items():
            file = tmp_path / name.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
        return tmp_path

    return commit


def test_manifests_in_git_are_held_against_names_others_against_shapes(checkout):
    root = checkout(
        **{
            "platform__x__config.yaml": "password: hunter2\n",
            "docs__x.md": "password: hunter2\nredis://user:secret@cache\n",
            "src__key.py": PEM,
            "apps__secret.yaml": "kind: Secret\nmetadata: {name: s}\ndata: {a: aHVudGVyMg==}\n",
            "apps__patch.yaml": "kind: Deployment\nmetadata: {name: d}\nspec: {replicas: 2}\n",
        }
    )
    (root / "unknown.yaml").write_text(PEM)  # Git does not know it
    places = found(_places.tracked(root))
    assert places == [
        "Git apps/secret.yaml: Secret /s",
        "Git platform/x/config.yaml",
        "Git src/key.py",
    ]


def test_this_repository_holds_no_credential():
    looked = list(_places.tracked(ROOT))
    assert len(looked) > 500
    assert found(looked) == []


def test_a_folder_that_git_does_not_know_is_an_error(tmp_path):
    with pytest.raises(ProbeError, match="git ls-files"):
        list(_places.tracked(tmp_path))


def etcd(node="cp-1", folder="/data/etcd", **flags):
    words = {
        "data-dir": "/var/lib/etcd/data",
        "listen-client-urls": "https://127.0.0.1:2379",
        **flags,
    }
    return named(
        "Pod",
        f"etcd-{node}",
        "kube-system",
        labels={"component": "etcd"},
        spec={
            "nodeName": node,
            "volumes": [{"name": "d", "hostPath": {"path": folder}}],
            "containers": [
                {
                    "command": [
                        "etcd",
                        *(f"--{k.replace('_', '-')}={v}" for k, v in words.items()),
                    ],
                    "volumeMounts": [{"name": "d", "mountPath": "/var/lib/etcd"}],
                }
            ],
        },
    )


def api_server(servers="https://127.0.0.1:2379"):
    containers = [{"command": ["kube-apiserver", f"--etcd-servers={servers}"]}]
    labels = {"component": "kube-apiserver"}
    return named("Pod", "api", "kube-system", labels=labels, spec={"containers": containers})


def test_the_members_files_are_found_by_the_flags():
    cluster = MemoryCluster(etcd("a"), etcd("b", "/disk"), api_server())
    assert _etcd.members(cluster) == [
        _etcd.Member("a", "/data/etcd/data"),
        _etcd.Member("b", "/disk/data"),
    ]


@pytest.mark.parametrize(
    "items",
    [
        [api_server()],
        [etcd()],
        [etcd(), api_server("https://etcd.example:2379")],
        [etcd(**{"data-dir": "/elsewhere"}), api_server()],
    ],
)
def test_an_etcd_that_cannot_be_found_is_an_error(items):
    with pytest.raises(ProbeError):
        _etcd.members(MemoryCluster(*items))


def searching(cluster, readable=(), controls=True):
    """Search pods end at once and report the canaries of `readable` kinds as found."""

    def finish(item):
        if "stringData" in item:
            return {**item, "data": item["stringData"]}
        if item["kind"] != "Pod" or "probe-etcd" not in item["metadata"]["name"]:
            return None
        needles = item["spec"]["containers"][0]["command"][5:]
        hidden, coded, shown = needles
        held = {hidden: ["wal/1"]} if "Secret" in readable else {}
        held |= {coded: ["db"]} if "base64" in readable else {}
        held |= {shown: ["wal/1"]} if controls else {}
        log = {"files": 2, "bytes": 9, "found": {n: held.get(n, []) for n in needles}}
        cluster.answers[f"log kube-system/{item['metadata']['name']}"] = json.dumps(log)
        return {**item, "status": {"phase": "Succeeded"}}

    cluster.on_create = finish
    return cluster


@pytest.mark.parametrize(("readable", "wrong"), [((), 0), (("Secret",), 1), (("base64",), 1)])
def test_a_readable_secret_in_etcd_is_a_finding(readable, wrong):
    cluster = searching(MemoryCluster(etcd(), api_server()), readable)
    assert len(found(_etcd.searched(Context(cluster)))) == wrong
    assert cluster.planted == []


def test_a_search_that_does_not_even_find_a_config_map_is_an_error():
    cluster = searching(MemoryCluster(etcd(), api_server()), controls=False)
    with pytest.raises(ProbeError, match="proves nothing"):
        list(_etcd.searched(Context(cluster)))
    assert cluster.planted == []


def test_a_search_that_fails_is_an_error():
    cluster = searching(MemoryCluster(etcd(), api_server()))
    ends = cluster.on_create

    def fail(item):
        made = ends(item)
        return made and {**made, "status": {"phase": "Failed"}}

    cluster.on_create = fail
    with pytest.raises(ProbeError, match="failed"):
        list(_etcd.searched(Context(cluster)))


def test_the_search_pod_reads_one_folder_and_writes_nothing():
    pod = _etcd._pod(Context(MemoryCluster()), "p", _etcd.Member("a", "/d"), [b"x"])
    main = pod["spec"]["containers"][0]
    users = [level["securityContext"]["runAsUser"] for level in (pod["spec"], main)]
    assert users == [0, 0]
    mount = main["volumeMounts"][0]
    assert mount["readOnly"] and pod["spec"]["nodeName"] == "a"
    assert main["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_script_finds_bytes_across_the_border_of_two_pieces(tmp_path):
    needle, absent = b"\x00needle\xff", b"absent"
    (tmp_path / "member").mkdir()
    (tmp_path / "member" / "db").write_bytes(b"a" * (search.CHUNK - 3) + needle + b"z" * 10)
    (tmp_path / "wal").write_bytes(b"nothing here")
    command = [sys.executable, "-c", pods.source("search"), tmp_path, needle.hex(), absent.hex()]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert told["found"] == {needle.hex(): ["member/db"], absent.hex(): []}
    assert told["files"] == 2


def test_a_folder_without_files_finds_nothing(tmp_path):
    assert search.search(str(tmp_path), [b"x"]) == {"files": 0, "bytes": 0, "found": {"78": []}}


@pytest.fixture
def platform(monkeypatch, checkout):
    root = checkout(**{"docs__x.md": "text"})
    monkeypatch.setattr(no_plain_secrets, "ROOT", root)
    cluster = MemoryCluster(
        etcd(), api_server(), *namespaces("rag-retrieval"), named("ConfigMap", "c", "rag-retrieval")
    )
    return searching(cluster)


def test_the_gate_is_green_and_leaves_nothing(platform):
    asked = Context(platform, etcd="searched", operated=[])
    seen = no_plain_secrets.measure(asked)
    assert values(seen) == {"findings": 0}
    assert platform.planted == []
    assert asked.evidence.files["looked-at.json"]["etcd"] == [("etcd on cp-1", "")]


@pytest.mark.parametrize("fault", no_plain_secrets.GATE.faults, ids=lambda f: f.description)
def test_each_fault_turns_it_red_and_is_taken_back(platform, fault):
    asked = Context(platform, etcd="searched", operated=[])
    with fault.plant(asked):
        seen = no_plain_secrets.measure(asked)
        assert values(seen)["findings"] > 0, seen.notes
    assert values(no_plain_secrets.measure(asked)) == {"findings": 0}
    assert platform.planted == []


def test_an_etcd_out_of_reach_must_be_declared_with_a_reason(platform):
    reason = "unreachable: a managed control plane"
    told = no_plain_secrets.measure(Context(platform, etcd=reason, operated=[]))
    assert "etcd was not searched: a managed control plane" in told.notes
    for declared in ({"etcd": "unreachable"}, {"etcd": "unreachable: "}, {"etcd": "no"}, {}):
        with pytest.raises(ProbeError):
            no_plain_secrets.measure(Context(platform, operated=[], **declared))


def test_an_exemption_that_nothing_needs_is_a_finding(platform):
    asked = Context(platform, etcd="searched", operated=[exemption()])
    seen = no_plain_secrets.measure(asked)
    assert values(seen)["findings"] == 1
    assert "exemption Kafka in rag-llm: it excuses nothing: take it out" in seen.notes


def test_a_folder_that_cannot_be_read_was_not_searched(tmp_path):
    with pytest.raises(OSError):
        search.search(str(tmp_path / "absent"), [b"x"])

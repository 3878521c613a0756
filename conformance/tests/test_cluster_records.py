"""A cluster's records, its gateway's declarations, its schedule and the source behind it."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from conformance.children import free_url
from conformance.gate import ProbeError
from conformance.targets.base import Description, RateLimit, Schedule
from conformance.targets.cluster import ClusterTarget
from conformance.targets.edge_faults import LIMIT, SHARED_LIMIT, limit_by_key, without_filter
from conformance.targets.layers import edge, objects, records, schedule
from conformance.targets.layers.places import ACCOUNT, place
from conformance.targets.processes import serving
from conformance.tests._memory_cluster import MemoryCluster, named
from conformance.tests._pod_network import pod_network


@pytest.fixture
def network():
    with pod_network() as cluster:
        yield cluster


@pytest.fixture
def target(network, tmp_path):
    made = ClusterTarget(Description("lab"), tmp_path / "kubeconfig")
    made.cluster = network
    secrets = {
        "elasticsearch": {"username": "suite", "password": "p"},
        "object-store": {"access_key": "AK", "secret_key": "SK"},
    }
    made.vault = SimpleNamespace(secret=secrets.__getitem__)
    return made


@pytest.fixture
def listening(network):
    """Puts an application behind a program's Service."""
    stack = []

    def start(name, application, port=None):
        url = free_url()
        context = serving(application, url)
        context.__enter__()
        stack.append(context)
        at = place(name)
        number = int(url.rpartition(":")[2])
        network.listen(at, f"{at.account}-1", number)
        if port:
            network.listeners[at.namespace, f"{at.account}-1", port] = number

    yield start
    for context in stack:
        context.__exit__(None, None, None)


# The audit trail


class Index:
    """Elasticsearch as the suite asks it, and the indexer that fills it."""

    def __init__(self):
        self.hits, self.lag, self.indexed, self.asked = [], 0, 0, []
        self.shards, self.status, self.wait = {"failed": 0}, 200, 0
        self.others = 0  # records that come while one is written

    async def search(self, request):
        body = json.loads(await request.body())
        self.asked.append((request.headers["authorization"], body))
        if self.status != 200:
            return JSONResponse({"error": "refused"}, self.status)
        after = body.get("search_after", [""])[0]
        found = [h for h in self.hits if h["time"] >= body["query"]["range"]["time"]["gte"]]
        page = [h for h in found if h["time"] > after][: body["size"]]
        hits = [{"_source": h, "sort": [h["time"], "", ""]} for h in page]
        return JSONResponse({"timed_out": False, "_shards": self.shards, "hits": {"hits": hits}})

    async def metrics(self, _):
        if self.lag and not self.wait:
            self.lag, self.indexed = self.lag - 1 + self.others, self.indexed + 1
        return PlainTextResponse(
            f"# TYPE audit_lag_records gauge\naudit_lag_records {self.lag}\n"
            "# TYPE audit_indexed counter\n"
            f'audit_indexed_total{{event="intent"}} {self.indexed}\n'
        )

    @property
    def application(self):
        return Starlette(
            routes=[
                Route("/audit-*/_search", self.search, methods=["POST"]),
                Route("/metrics", self.metrics),
            ]
        )


@pytest.fixture
def index(listening, monkeypatch):
    for name in ("_GAUGE_SECONDS", "_REFRESH_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(records, name, 0.02)
    made = Index()
    listening("elasticsearch", made.application)
    listening("indexer", made.application)
    return made


def test_audit_records_are_this_runs_once_the_index_has_caught_up(target, index, monkeypatch):
    monkeypatch.setattr(records, "PAGE", 2)
    index.lag = 3
    index.hits = [{"time": t, "request_id": t} for t in ("2000", "2998", "2999", "3000")]
    assert [r["request_id"] for r in target.audit_records()] == ["2998", "2999", "3000"]
    assert index.lag == 0
    assert len(index.asked) == 2
    later = datetime(3000, 1, 1, tzinfo=UTC)
    index.hits = [{"time": t, "request_id": t} for t in ("2999", "3001")]
    assert [r["request_id"] for r in target.audit_records(later)] == ["3001"]
    assert index.asked[0][0].startswith("Basic ")
    assert index.asked[1][1]["search_after"] == ["2999", "", ""]


def test_what_others_ask_meanwhile_is_not_waited_for(target, index):
    index.lag, index.others = 3, 1
    target.audit_records()
    assert (index.lag, index.indexed) == (3, 4)


def test_an_indexer_that_begins_again_is_waited_for_anew(network, monkeypatch):
    for name in ("_GAUGE_SECONDS", "_REFRESH_SECONDS", "_POLL_SECONDS"):
        monkeypatch.setattr(records, name, 0)
    told = [(5, 100), (5, 0), (3, 2), (1, 4), (1, 5), (0, 9)]
    scrapes = ({"audit_lag_records": lag, "audit_indexed_total": done} for lag, done in told)
    monkeypatch.setattr(records.doors, "metrics", lambda *_: next(scrapes))
    records.caught_up(network)
    assert [*scrapes] == [{"audit_lag_records": 0, "audit_indexed_total": 9}]


def test_an_indexer_that_stays_behind_is_an_error(target, index, monkeypatch):
    monkeypatch.setattr(records, "_CAUGHT_UP_SECONDS", 0.1)
    index.lag, index.wait = 7, 1
    with pytest.raises(ProbeError, match="7 records behind its log"):
        target.audit_records()


def test_an_index_that_answers_in_part_or_not_at_all_is_an_error(target, index, network):
    index.shards = {"failed": 1}
    with pytest.raises(ProbeError, match="a search of a part"):
        target.audit_records()
    index.status = 403
    with pytest.raises(ProbeError, match="elasticsearch: 403"):
        target.audit_records()
    network.delete("discovery.k8s.io/v1", "EndpointSlice", "elasticsearch", "rag-audit")
    with pytest.raises(ProbeError, match="rag-audit/elasticsearch: no pod is ready"):
        target.audit_records()


def test_an_indexer_without_its_lag_is_an_error(network, monkeypatch):
    monkeypatch.setattr(records.doors, "metrics", lambda *_: {})
    with pytest.raises(ProbeError, match="exports no audit_lag_records"):
        records.caught_up(network)


# Logs of pods


def test_flags_and_requests_are_lines_among_others(target, network):
    network.listen(place("guard"), "guard-1", 1)
    network.listen(place("gateway"), "gateway-1", 1)
    flag = {"message": "flagged", "flag": {"text": "Ignore all"}}
    lines = ["not JSON", "[1]", json.dumps({"message": "flagged"}), json.dumps(flag)]
    network.answers["log rag-gateway/guard-1"] = "\n".join(lines)
    request = {"request_id": "r", "status": 200}
    network.answers["log rag-gateway/gateway-1"] = "\n".join([json.dumps(request), "{}"])
    assert target.flagged() == [{"text": "Ignore all"}]
    assert target.access_records() == [request]
    network.delete("v1", "Pod", "guard-1", "rag-gateway")
    with pytest.raises(ProbeError, match="rag-gateway/guard: no pod is ready"):
        target.flagged()


# The gateway

JWT = {
    "name": edge.JWT,
    "typed_config": {"providers": {"tenants": {"issuer": "me", "audiences": ["gateway"]}}},
}
LIMITED = {"name": SHARED_LIMIT, "typed_config": {"http_service": {"path_prefix": "/authz/limit"}}}


def envoy_filter(*values, name="filters"):
    merged = {"applyTo": "LISTENER", "patch": {"operation": "MERGE", "value": {"a": 1}}}
    inserted = [
        {"applyTo": "HTTP_FILTER", "match": {"context": "GATEWAY"}, "patch": {"value": value}}
        for value in values
    ]
    spec = {"configPatches": [merged, *inserted]}
    return named("EnvoyFilter", name, "rag-gateway", edge.FILTERS[0], spec=spec)


class Proxy:
    """A gateway's proxy, whose listeners are what the EnvoyFilters say, unless it refuses them."""

    def __init__(self, cluster):
        self.cluster, self.refuses = cluster, False
        self.now = self.pushed()

    def pushed(self):
        return [i["spec"] for i in self.cluster.list(*edge.FILTERS)]

    async def dump(self, _):
        if not self.refuses:
            self.now = self.pushed()
        state = {"active_state": {"version_info": "1", "listener": self.now}}
        return JSONResponse({"configs": [state]})


@pytest.fixture
def proxy(network, listening):
    network.put(envoy_filter(JWT, LIMITED))
    network.put(envoy_filter(name="connections"))
    made = Proxy(network)
    application = Starlette(routes=[Route("/config_dump", made.dump)])
    listening("gateway", application, edge._ADMIN_PORT)
    return made


def http_filters(cluster):
    patches = cluster.get(*edge.FILTERS, "filters", "rag-gateway")["spec"]["configPatches"]
    return {p["patch"]["value"]["name"]: p for p in patches if p["applyTo"] == "HTTP_FILTER"}


def test_a_filter_is_taken_out_of_the_proxies_and_put_back(target, network, proxy):
    before = network.get(*edge.FILTERS, "filters", "rag-gateway")
    with target.gateway_filters(without_filter(edge.JWT)):
        assert set(http_filters(network)) == {SHARED_LIMIT}
        assert [len(spec["configPatches"]) for spec in proxy.now] == [2, 1]
    assert network.get(*edge.FILTERS, "filters", "rag-gateway")["spec"] == before["spec"]
    assert set(http_filters(network)) == {edge.JWT, SHARED_LIMIT}


def test_the_shared_limit_counts_keys_for_a_while(target, network, proxy):
    with target.gateway_filters(limit_by_key("acme")):
        service = http_filters(network)[SHARED_LIMIT]["patch"]["value"]["typed_config"][
            "http_service"
        ]
        (header,) = service["authorization_request"]["headers_to_add"]
        assert header["key"] == "x-rag-tenant"
        assert "x-rag-user" in header["value"]
    assert http_filters(network)[SHARED_LIMIT]["patch"]["value"] == LIMITED


def test_a_change_that_the_proxies_refuse_is_an_error_and_undone(target, network, proxy):
    proxy.refuses = True
    with (
        pytest.raises(ProbeError, match="do not take the change"),
        target.gateway_filters(without_filter(*LIMIT)),
    ):
        pass
    assert set(http_filters(network)) == {edge.JWT, SHARED_LIMIT}


def test_a_gateway_without_such_filters_cannot_be_changed(target, network):
    with (
        pytest.raises(ProbeError, match="0 EnvoyFilters"),
        target.gateway_filters(without_filter("x")),
    ):
        pass
    network.put(envoy_filter(LIMITED))
    with (
        pytest.raises(ProbeError, match="has no filter x or y"),
        target.gateway_filters(without_filter("x", "y")),
    ):
        pass


def test_without_a_gateway_pod_nothing_is_taken_for_changed(target, network):
    network.put(envoy_filter(LIMITED))
    with (
        pytest.raises(ProbeError, match="rag-gateway/gateway: no pod is ready"),
        target.gateway_filters(without_filter(*LIMIT)),
    ):
        pass


def test_jwts_are_those_that_the_filter_takes(target, network):
    assert target._jwt_settings() == {}
    network.put(envoy_filter(LIMITED, JWT))
    assert target._jwt_settings() == {"jwt_issuer": "me", "jwt_audience": "gateway"}
    target.told = Description("lab", extra={"jwt_audience": "mine"})
    assert target._jwt_settings() == {"jwt_issuer": "me", "jwt_audience": "mine"}


def test_the_declared_rate_is_the_tenants_or_the_default(target, network):
    text = """
    default: {requests_per_minute: 600, burst: 60}
    tenants:
      acme: {requests_per_minute: 30, burst: 7}
    """
    network.put(named("ConfigMap", "rate-limits", "rag-gateway", data={"limits.yaml": text}))
    assert target.rate_limit("acme") == RateLimit(30.0, 7)
    assert target.rate_limit("other") == RateLimit(600.0, 60)
    target.told = Description("lab", rate_limits={"acme": RateLimit(1, 1)})
    assert target.rate_limit("acme") == RateLimit(1, 1)


# The schedule and its source


def cron(text, bucket="s3://documents/", suspend=False):
    container = {"name": "ingestion", "env": [{"name": "SOURCE_BUCKET", "value": bucket}]}
    volumes = [{"name": "tmp"}, {"name": "tenants", "configMap": {"name": "tenants"}}]
    template = {
        "metadata": {"labels": {ACCOUNT: "ingestion"}},
        "spec": {"containers": [container], "volumes": volumes},
    }
    spec = {"schedule": text, "suspend": suspend, "jobTemplate": {"spec": {"template": template}}}
    return named("CronJob", "rag-doc-ingestion", "rag-ingestion", "batch/v1", spec=spec)


def listed(*tenants):
    data = {"tenants.txt": "\n".join(tenants)}
    return named("ConfigMap", "tenants", "rag-ingestion", data=data)


@pytest.mark.parametrize(
    ("expression", "minutes"),
    [
        ("*/30 * * * *", 30),
        ("7 * * * *", 60),
        ("0,10 * * * *", 50),
        ("5 4 * * *", 1440),
        ("0 8-18/2 * * *", 840),
        ("50/5 * * * *", 55),
    ],
)
def test_a_schedule_is_as_long_as_its_longest_gap(expression, minutes):
    assert schedule.longest_gap(expression) == minutes


@pytest.mark.parametrize("expression", ["* * * *", "* * * * 1-5", "a * * * *", "*/0 * * * *"])
def test_a_schedule_that_is_not_understood_is_an_error(expression):
    with pytest.raises(ProbeError, match="schedule"):
        schedule.longest_gap(expression)


def test_the_schedule_is_the_cron_jobs_for_the_suites_tenant():
    cluster = MemoryCluster(cron("*/30 * * * *"), listed("demo", "conformance-scheduled"))
    source = "s3://documents/conformance-scheduled"
    assert schedule.declared(cluster) == Schedule("conformance-scheduled", source, 1800.0)
    cluster.put(cron("*/30 * * * *", suspend=True))
    assert schedule.declared(cluster) == Schedule("conformance-scheduled", source, float("inf"))
    cluster.put(cron("*/30 * * * *", bucket="/a/folder"))
    with pytest.raises(ProbeError, match="no CronJob syncs tenant"):
        schedule.declared(cluster)
    cluster.put(cron("*/30 * * * *"))
    cluster.put(listed("demo"))
    with pytest.raises(ProbeError, match="no CronJob syncs tenant"):
        schedule.declared(cluster)


@pytest.mark.parametrize(("method", "content"), [("PUT", b"text"), ("DELETE", b"")])
def test_requests_are_signed_as_the_sdk_signs_them(method, content, monkeypatch):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    url = "http://127.0.0.1:8333/documents/conformance-scheduled/a%20b.md"
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None))
    request = AWSRequest(method, url, data=content)
    S3SigV4Auth(Credentials("AK", "SK"), "s3", "us-east-1").add_auth(request)
    parts = urlsplit(url)
    ours = objects.signed(method, parts.netloc, parts.path, content, objects.Keys("AK", "SK"), now)
    assert ours["authorization"] == request.headers["Authorization"]
    assert "SK" not in repr(objects.Keys("AK", "SK"))


def test_a_scheduled_document_is_an_object_for_a_while(target, listening):
    kept, status = {}, [200]

    async def store(request):
        if request.method == "PUT":
            kept[request.url.path] = await request.body()
        else:
            kept.pop(request.url.path)
        return Response(status_code=status[0])

    application = Starlette(routes=[Route("/{path:path}", store, methods=["PUT", "DELETE"])])
    listening("object-store", application)
    target.told = Description("lab", schedule=Schedule("t", "s3://documents/t/", 1800))
    with target.scheduled_document("a.md", "text"):
        assert kept.pop("/documents/t/about.md").startswith(b"# Schedule")
        assert kept == {"/documents/t/a.md": b"text"}
    assert kept == {}
    status[0] = 403
    with (
        pytest.raises(ProbeError, match="PUT /documents/t/about.md: 403"),
        target.scheduled_document("a.md", ""),
    ):
        pass


def test_an_object_store_out_of_reach_is_an_error():
    with pytest.raises(ProbeError, match="object store: PUT /b/k"):
        objects.put(free_url(), objects.Keys("a", "s"), "b", "k", b"")


def test_the_log_of_the_audit_is_shut_by_stopping_it(target):
    stopped = []

    @contextmanager
    def stop(name):
        stopped.append(name)
        yield

    target.processes = SimpleNamespace(stopped=stop)
    with target.audit_unwritable():
        assert stopped == ["kafka"]

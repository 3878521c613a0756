"""Programs of the layers on a cluster in memory: down and back, killed, changed, stood in for."""

import subprocess
import sys
from importlib import resources

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from conformance.children import free_port, free_url
from conformance.gate import ProbeError
from conformance.targets.kube.changing import CHANGED
from conformance.targets.kube.sweeping import sweep
from conformance.targets.layers import processes as module
from conformance.targets.layers import relay
from conformance.targets.layers.places import ACCOUNT, forward, place
from conformance.targets.layers.processes import ClusterProcesses
from conformance.targets.layers.workloads import KAFKA, PAUSED, PAUSED_KAFKA, POD_SET
from conformance.targets.processes import serving
from conformance.tests._memory_cluster import MemoryCluster, named
from conformance.tests._pod_network import pod_network

RECONCILE = "kustomize.toolkit.fluxcd.io/reconcile"
CONTROLLED = ("Deployment", "StatefulSet")


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(module, "MESH_SECONDS", 0)
    monkeypatch.setattr(module, "POLICY_SECONDS", 0)


def workload(kind, name, at, replicas=1, env=()):
    template = {
        "metadata": {"labels": {ACCOUNT: at.account}},
        "spec": {"containers": [{"name": at.account, "env": [*env]}, {"name": "other"}]},
    }
    return named(
        kind,
        name,
        at.namespace,
        "apps/v1",
        spec={"replicas": replicas, "template": template},
        status=dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), replicas),
    )


def pod(at, name, **more):
    labels = {ACCOUNT: at.account}
    ready = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": at.account, "restartCount": 0}],
    }
    return named("Pod", name, at.namespace, labels=labels, status={**ready, **more})


class Controllers:
    """What a cluster's controllers do about a patch: replicas become pods, a pause becomes zero."""

    def __init__(self, cluster):
        self.cluster = cluster
        cluster.on_patch = self.patched
        self.patches = []

    def patched(self, item):
        self.patches.append(item)
        if item["kind"] in CONTROLLED:
            return self.scaled(item)
        if item["kind"] == "ScaledObject":
            ref = item["spec"]["scaleTargetRef"]["name"]
            target = self.cluster.get("apps/v1", "Deployment", ref, item["metadata"]["namespace"])
            paused = item["metadata"].get("annotations", {}).get(PAUSED)
            target["spec"]["replicas"] = 0 if paused else item["spec"]["minReplicaCount"]
            self.cluster.put(self.scaled(target))
        return None

    def scaled(self, item):
        count = item["spec"]["replicas"]
        item["status"] = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas"), count)
        account = item["spec"]["template"]["metadata"]["labels"][ACCOUNT]
        namespace = item["metadata"]["namespace"]
        at = next(
            p for p in module.PLACES.values() if (p.namespace, p.account) == (namespace, account)
        )
        self.cluster.objects.pop(("v1", "Pod", f"{account}-1", namespace), None)
        if count:
            self.cluster.put(pod(at, f"{account}-1"))
        ends = [{"targetRef": {"name": f"{account}-1"}}] if count else []
        self.cluster.put(
            named(
                "EndpointSlice",
                at.service or account,
                namespace,
                "discovery.k8s.io/v1",
                labels={"kubernetes.io/service-name": at.service},
                ports=[{}],
                endpoints=ends,
            )
        )
        return item


@pytest.fixture
def cluster():
    return MemoryCluster()


@pytest.fixture
def strimzi(cluster):
    """The brokers as Strimzi runs them: it fills the list of pods again unless it is paused."""
    at = place("kafka")
    labels = {ACCOUNT: at.account, "strimzi.io/cluster": "log"}
    brokers = [{"metadata": {"name": f"log-kafka-{n}"}} for n in range(3)]
    counts = dict.fromkeys(("pods", "currentPods", "readyPods"), len(brokers))
    cluster.put(named(KAFKA[1], "log", at.namespace, KAFKA[0]))
    cluster.put(
        named(
            POD_SET[1],
            "log-kafka",
            at.namespace,
            POD_SET[0],
            labels=labels,
            spec={"pods": brokers},
            status=counts,
        )
    )

    def follow(item):
        if item["kind"] != POD_SET[1]:
            return None
        kafka = cluster.get(*KAFKA, "log", at.namespace)
        if PAUSED_KAFKA not in kafka["metadata"].get("annotations", {}):
            item["spec"]["pods"] = brokers
        names = [p["metadata"]["name"] for p in item["spec"]["pods"]]
        for broker in brokers:
            cluster.objects.pop(("v1", "Pod", broker["metadata"]["name"], at.namespace), None)
        for name in names:
            cluster.put(pod(at, name))
        item["status"] = dict.fromkeys(counts, len(names))
        ends = [{"targetRef": {"name": name}} for name in names]
        labels = {"kubernetes.io/service-name": at.service}
        api = "discovery.k8s.io/v1"
        parts = {"ports": [{}], "endpoints": ends}
        cluster.put(named("EndpointSlice", "s", at.namespace, api, labels=labels, **parts))
        return item

    cluster.on_patch = follow
    follow(cluster.get(*POD_SET, "log-kafka", at.namespace))
    return cluster


def test_brokers_of_strimzi_are_stopped_with_their_operator_held(strimzi):
    at, processes = place("kafka"), ClusterProcesses(strimzi)
    before = strimzi.get(*POD_SET, "log-kafka", at.namespace)["spec"]
    with processes.stopped("kafka"):
        assert not strimzi.list("v1", "Pod", at.namespace)
        kafka = strimzi.get(*KAFKA, "log", at.namespace)
        assert kafka["metadata"]["annotations"][PAUSED_KAFKA] == "true"
    assert len(strimzi.list("v1", "Pod", at.namespace)) == 3
    after = strimzi.get(*POD_SET, "log-kafka", at.namespace)
    assert after["spec"] == before and CHANGED not in after["metadata"]["labels"]
    kafka = strimzi.get(*KAFKA, "log", at.namespace)
    assert PAUSED_KAFKA not in kafka["metadata"].get("annotations", {})


def test_brokers_of_strimzi_that_are_not_all_ready_are_waited_for(strimzi):
    at = place("kafka")
    item = strimzi.get(*POD_SET, "log-kafka", at.namespace)
    item["status"]["readyPods"] = 2
    strimzi.put(item)
    with pytest.raises(ProbeError, match="StrimziPodSet rag-audit/log-kafka rolls out"):
        ClusterProcesses(strimzi).wait_ready("kafka")


@pytest.fixture
def controllers(cluster):
    return Controllers(cluster)


def runs(cluster, controllers, kind, name, program, **more):
    item = workload(kind, name, place(program), **more)
    cluster.put(controllers.scaled(item))
    return item


def test_a_stop_scales_to_nothing_without_flux_and_a_start_takes_it_back(cluster, controllers):
    runs(cluster, controllers, "StatefulSet", "cache", "cache", replicas=2)
    processes = ClusterProcesses(cluster)
    with processes.stopped("valkey"):
        item = cluster.get("apps/v1", "StatefulSet", "cache", "rag-retrieval")
        assert item["spec"]["replicas"] == 0
        assert item["metadata"]["annotations"][RECONCILE] == "disabled"
        assert CHANGED in item["metadata"]["labels"]
        processes.stop("cache")  # it is down already
    item = cluster.get("apps/v1", "StatefulSet", "cache", "rag-retrieval")
    assert item["spec"]["replicas"] == 2
    assert item["metadata"]["annotations"] == {}
    assert "cache" in processes.names()


def test_what_keda_scales_is_paused(cluster, controllers):
    runs(cluster, controllers, "Deployment", "embedding-predictor", "embedding")
    scaler = {"scaleTargetRef": {"name": "embedding-predictor"}, "minReplicaCount": 1}
    cluster.put(
        named("ScaledObject", "embedding", "rag-embedding", "keda.sh/v1alpha1", spec=scaler)
    )
    processes = ClusterProcesses(cluster)
    processes.stop("embedding")
    item = cluster.get("apps/v1", "Deployment", "embedding-predictor", "rag-embedding")
    assert (item["spec"]["replicas"], item["metadata"].get("annotations")) == (0, None)
    processes.start("embedding")
    item = cluster.get("apps/v1", "Deployment", "embedding-predictor", "rag-embedding")
    assert item["spec"]["replicas"] == 1


def test_a_model_at_zero_stays_there(cluster, controllers):
    runs(cluster, controllers, "Deployment", "llm-predictor", "llm", replicas=0)
    scaler = {"scaleTargetRef": {"name": "llm-predictor"}, "minReplicaCount": 0}
    cluster.put(named("ScaledObject", "llm", "rag-llm", "keda.sh/v1alpha1", spec=scaler))
    ClusterProcesses(cluster).restart("llm")
    item = cluster.get("apps/v1", "Deployment", "llm-predictor", "rag-llm")
    assert item["spec"]["replicas"] == 0


def test_a_schedule_is_suspended_and_what_it_has_begun_is_ended(cluster, controllers):
    at = place("ingestion")
    template = {"metadata": {"labels": {ACCOUNT: "ingestion"}}}
    cron = {"suspend": False, "jobTemplate": {"spec": {"template": template}}}
    cluster.put(named("CronJob", "rag-doc-ingestion", at.namespace, "batch/v1", spec=cron))
    for name, owner, active in (
        ("mine", "rag-doc-ingestion", 1),
        ("other", "x", 1),
        ("old", "", 0),
    ):
        job = named("Job", name, at.namespace, "batch/v1", status={"active": active})
        job["metadata"]["ownerReferences"] = [{"name": owner}]
        cluster.put(job)
    runs(cluster, controllers, "Deployment", "events", "ingestion")
    with ClusterProcesses(cluster).stopped("ingestion"):
        assert cluster.get("batch/v1", "CronJob", "rag-doc-ingestion", at.namespace)["spec"][
            "suspend"
        ]
        left = [j["metadata"]["name"] for j in cluster.list("batch/v1", "Job")]
        assert left == ["other", "old"]
    found = cluster.get("batch/v1", "CronJob", "rag-doc-ingestion", at.namespace)
    assert found["spec"]["suspend"] is False


def test_a_run_that_was_killed_is_undone_by_the_next(cluster, controllers):
    runs(cluster, controllers, "Deployment", "guard", "guard", replicas=2)
    killed = ClusterProcesses(cluster)  # kept: who is collected undoes it
    killed.stop("guard")
    assert sweep(cluster, own=True) == ["Deployment rag-gateway/guard (changed)"]
    assert cluster.get("apps/v1", "Deployment", "guard", "rag-gateway")["spec"]["replicas"] == 2


def test_what_is_not_there_or_does_not_go_is_an_error(cluster, controllers):
    with pytest.raises(ProbeError, match="rag-audit/kafka: no workload of this account"):
        ClusterProcesses(cluster).stop("kafka")
    runs(cluster, controllers, "StatefulSet", "kafka", "kafka")
    cluster.on_patch = lambda item: None
    with pytest.raises(ProbeError, match="rag-audit/kafka does not stop"):
        ClusterProcesses(cluster).stop("kafka")


def test_a_rollout_is_waited_for(cluster, controllers):
    item = runs(cluster, controllers, "Deployment", "retrieval", "retrieval", replicas=2)
    item["status"]["updatedReplicas"] = 1
    cluster.put(item)
    with pytest.raises(ProbeError, match="Deployment rag-retrieval/retrieval rolls out"):
        ClusterProcesses(cluster).wait_ready("retrieval")
    cluster.put(controllers.scaled(item))
    leaving = pod(place("retrieval"), "retrieval-0")
    leaving["metadata"]["deletionTimestamp"] = "now"
    cluster.put(leaving)
    with pytest.raises(ProbeError, match="retrieval-0 is leaving"):
        ClusterProcesses(cluster).wait_ready("retrieval")
    cluster.delete("v1", "Pod", "retrieval-0", "rag-retrieval")
    cluster.delete("discovery.k8s.io/v1", "EndpointSlice", "retrieval", "rag-retrieval")
    with pytest.raises(ProbeError, match="nothing behind retrieval"):
        ClusterProcesses(cluster).wait_ready("retrieval")


def test_other_settings_are_the_deployments_for_a_while(cluster, controllers):
    env = [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    runs(cluster, controllers, "Deployment", "retrieval", "retrieval", env=env)
    with ClusterProcesses(cluster).reconfigured("retrieval", B="3", C="4"):
        item = cluster.get("apps/v1", "Deployment", "retrieval", "rag-retrieval")
        container, other = item["spec"]["template"]["spec"]["containers"]
        assert {v["name"]: v["value"] for v in container["env"]} == {"A": "1", "B": "3", "C": "4"}
        assert other == {"name": "other"}
        assert item["metadata"]["annotations"][RECONCILE] == "disabled"
    item = cluster.get("apps/v1", "Deployment", "retrieval", "rag-retrieval")
    assert item["spec"]["template"]["spec"]["containers"][0]["env"] == env


def test_a_program_without_its_container_or_in_two_workloads_is_not_changed(cluster, controllers):
    item = runs(cluster, controllers, "Deployment", "guard", "guard")
    cluster.put({**item, "metadata": {"name": "guard-2", "namespace": "rag-gateway"}})
    with (
        pytest.raises(ProbeError, match="2 workloads, not one"),
        ClusterProcesses(cluster).reconfigured("guard"),
    ):
        pass
    cluster.delete("apps/v1", "Deployment", "guard-2", "rag-gateway")
    item["spec"]["template"]["spec"]["containers"][0]["name"] = "main"
    cluster.put(item)
    with (
        pytest.raises(ProbeError, match="no container guard"),
        ClusterProcesses(cluster).reconfigured("guard"),
    ):
        pass


def test_every_pod_is_killed_from_within_and_seen_to_have_started_again(cluster):
    at, killed = place("retrieval"), []
    for name in ("one", "two"):
        cluster.put(pod(at, name))

    def execute(namespace, name, container, command, stdin="", seconds=30):
        killed.append((name, container, "RLIMIT_CPU" in command[-1]))
        again = [{"name": at.account, "restartCount": 1}]
        cluster.put(pod(at, name, containerStatuses=again))
        raise ProbeError("exit code 137")

    cluster.exec = execute
    ClusterProcesses(cluster).kill("retrieval")
    assert killed == [("one", "retrieval", True), ("two", "retrieval", True)]


def test_what_cannot_be_killed_is_an_error(cluster):
    with pytest.raises(ProbeError, match="no pod is ready"):
        ClusterProcesses(cluster).kill("retrieval")
    cluster.put(pod(place("retrieval"), "one"))
    cluster.exec = lambda *args, **options: ""
    with pytest.raises(ProbeError, match="retrieval outlives SIGKILL"):
        ClusterProcesses(cluster).kill("retrieval")


# Stand-ins: the relay's real script, as a process of this machine, behind real WebSockets.


@pytest.fixture
def network():
    """A cluster in which a new relay pod really runs its script."""
    script = str(resources.files("conformance.targets.kube") / "scripts/relay.py")
    children = []
    with pod_network() as cluster:

        def start(item):
            if item["kind"] == "Service":
                slices(
                    cluster, item["metadata"]["namespace"], item["metadata"]["name"], item["spec"]
                )
            if item["kind"] != "Pod":
                return item
            port, waiting = item["spec"]["containers"][0]["command"][-2:]
            namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
            for number in (port, waiting):
                cluster.listeners[namespace, name, int(number)] = free_port()
            real = [str(cluster.listeners[namespace, name, int(n)]) for n in (port, waiting)]
            children.append(subprocess.Popen([sys.executable, script, *real]))
            item["status"] = {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "probe", "ready": True}],
            }
            return item

        cluster.on_create = start
        cluster.on_patch = lambda item: (
            slices(cluster, item["metadata"]["namespace"], item["metadata"]["name"], item["spec"])
            if item["kind"] == "Service"
            else None
        )
        cluster.wait = waited
        yield cluster
    for child in children:
        child.kill()
        child.wait()


def waited(holds, seconds, what):
    import time

    end = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > end:
            raise ProbeError(what)
        time.sleep(0.02)
    return answer


def port_names(item):
    containers = item.get("spec", {}).get("containers", [])
    return {port["name"] for c in containers for port in c.get("ports", [])}


def slices(cluster, namespace, service, spec):
    """What the endpoint controller makes of a Service, whenever it is asked for."""
    original = cluster.list

    inside = namespace

    def listed(api_version, kind, namespace="", labels=""):
        if kind == "EndpointSlice" and labels.endswith(f"={service}") and namespace == inside:
            found = original("v1", "Pod", namespace)
            wanted = cluster.objects.get(("v1", "Service", service, namespace), {"spec": spec})
            chosen = [
                p
                for p in found
                if wanted["spec"]["selector"].items() <= p["metadata"]["labels"].items()
            ]
            ends = [{"targetRef": {"name": p["metadata"]["name"]}} for p in chosen]
            targets = [port["targetPort"] for port in wanted["spec"].get("ports", [])]
            called = {target for target in targets if isinstance(target, str)}
            ports = [{}] if all(called <= port_names(p) for p in chosen) else None
            return [{"endpoints": ends, "ports": ports}]
        return original(api_version, kind, namespace, labels)

    cluster.list = listed


def says(word, counted=None):
    async def answer(request):
        if counted is not None:
            counted.append(request.url.path)
        return PlainTextResponse(f"{word} {(await request.body()).decode()}".strip())

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])


def through(cluster, pod_name, at, body=""):
    """What a caller in the cluster gets from the pod's port."""
    url = f"http://127.0.0.1:{cluster.listeners[at.namespace, pod_name, at.port]}"
    return httpx.post(f"{url}/x", content=body, trust_env=False, timeout=20).text


def test_a_stand_in_has_a_service_of_its_own_that_leads_here(network):
    at = place("llm")
    with ClusterProcesses(network).stand_in("llm", says("here")) as url:
        ((_, _, service, namespace),) = [r for r in network.planted if r[1] == "Service"]
        assert url == f"http://{service}.{namespace}"
        item = network.get("v1", "Pod", service, namespace)
        assert item["metadata"]["labels"][ACCOUNT] == "llm"
        assert item["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
        assert (item["spec"]["serviceAccountName"], item["spec"]["readinessGates"]) == ("llm", [])
        body = "much " * 100_000
        found = {through(network, service, at, body) for _ in range(20)}
        assert found == {f"here {body}".strip()}
    assert network.planted == []


def test_in_front_of_a_program_the_suite_sees_what_callers_see(network):
    at, url = place("retrieval"), free_url()
    spec = {"selector": {ACCOUNT: at.account}, "ports": [{"port": 8080, "targetPort": "http"}]}
    service = named("Service", "retrieval", at.namespace, spec=spec)
    network.put(service)
    slices(network, at.namespace, "retrieval", service["spec"])
    with serving(says("real"), url):
        network.listeners[at.namespace, "real", at.port] = int(url.rpartition(":")[2])
        real = pod(at, "real")
        ports = [{"name": "http", "containerPort": at.port}]
        real["spec"] = {"containers": [{"name": at.account, "ports": ports}]}
        network.put(real)
        with forward(network, "retrieval") as door:
            ask = lambda: httpx.get(f"http://{door.address}/", trust_env=False).text  # noqa: E731
            assert ask() == "real"

            def proxy(inner):
                async def passed(request):
                    async with httpx.AsyncClient(trust_env=False) as client:
                        return PlainTextResponse("changed " + (await client.get(inner)).text)

                return Starlette(routes=[Route("/", passed)])

            with ClusterProcesses(network).fronted("retrieval", proxy):
                assert ask() == "changed real"
            assert ask() == "real"
    assert network.get("v1", "Service", "retrieval", at.namespace)["spec"] == service["spec"]


def test_a_stand_in_that_nothing_leads_to_is_an_error(network, monkeypatch):
    monkeypatch.setattr(relay, "_SERVED_SECONDS", 2)
    monkeypatch.setattr(relay, "behind", lambda *_: ["another"])
    with (
        pytest.raises(ProbeError, match="leads elsewhere"),
        ClusterProcesses(network).stand_in("llm", says("here")),
    ):
        pass
    assert network.planted == []


def test_the_relays_image_is_that_of_the_probes():
    from conformance import slo

    told = slo.load(slo.FOLDER / "production.yaml").parameters["all"]["probe_image"]
    assert told == relay.IMAGE

"""A cluster whose workloads get what is declared when they are attacked, but for what a test changes."""

import json
from base64 import b64encode

import httpx

from conformance.gates.intelligence._compromise import attempts
from conformance.gates.intelligence._compromise.attempts import Attempt
from conformance.probes.cluster import ApiError
from conformance.static import matrix
from conformance.static.matrix import Edge
from conformance.targets.kube.pods import source
from conformance.targets.kube.scripts import escape
from conformance.targets.layers.places import ACCOUNT
from conformance.tests._fake_cluster import FakeCluster, made

SCRIPTS = {
    source(name): name
    for name in ("knock", "vault_raid", "sql_raid", "kafka_raid", "service_raid", "escape")
}
PORTS = {("rag-gateway", "gateway"): 8080, ("rag-ingestion", "object-store"): 8333}
SHELL = (
    "Uid:65532\nCapEff:0\nCapBnd:0\nNoNewPrivs:1\nSeccomp:2\nwritten:\nnode:\nsockets:\n"
    "environment:\nexport HOME='/tmp'\n"
)
WEB = "HTTP/1.1 {} x\r\nserver: envoy\r\nx-envoy-upstream-service-time: 1\r\n{}\r\n"
_IDENTITIES = {
    "/authz/guard": ("have the guard sign a tenant token", 8083),
    "/authz/authn": ("be taken for a tenant by the guard", 8083),
    "/authz/limit": ("use up a tenant's rate", 8083),
    "/v1/check": ("have the guard judge a text", 8083),
}


class Attacked(FakeCluster):
    """One running pod of each account of the lab's matrix, with a Service before each that is called."""

    def __init__(self):
        super().__init__()
        self.matrix, self.powers = matrix.of("lab"), attempts.declared("lab")
        self.more, self.less = set(), set()  # (who, "family: attempt") that works, or does not
        self.tokens, self.shell, self.addresses = set(), SHELL, {}
        ports = {(e.to_namespace, e.to_account): e.port for e in self.matrix.flows} | PORTS
        for number, who in enumerate(sorted(self.matrix.layer_accounts), 1):
            self._workload(who, f"10.244.0.{number}", ports.get(who))
        for name in {n for n, _ in self.matrix.layer_accounts} | {"vault", "kube-system"}:
            self.put(made("Namespace", name))
        ca = {"ca.crt": b64encode(b"ca").decode()}
        self.put(made("Secret", "vault-tls", "vault", data=ca))
        self.admit = self._start

    def put(self, item):
        self.objects[item["apiVersion"], item["kind"], *self._name(item)] = item

    def _name(self, item):
        return item["metadata"]["name"], item["metadata"].get("namespace", "")

    def _workload(self, who, address, port):
        namespace, account = who
        labels = {ACCOUNT: account}
        notes = {"vault.hashicorp.com/agent-inject-secret-x": f"secret/data/{'/'.join(who)}/x"}
        spec = {"serviceAccountName": account, "containers": [{"name": "app"}]}
        template = {"metadata": {"labels": labels, "annotations": notes}, "spec": spec}
        self.put(made("Deployment", account, namespace, "apps/v1", spec={"template": template}))
        self.put(made("ServiceAccount", account, namespace))
        running = {"name": "app", "state": {"running": {}}}
        status = {"phase": "Running", "podIP": address, "containerStatuses": [running]}
        pod = made("Pod", f"{account}-1", namespace, spec=spec, status=status)
        pod["metadata"]["labels"] = labels
        self.put(pod)
        if port:
            self._serve(who, address, port)

    def _serve(self, who, address, port):
        namespace, account = who
        own = {"name": "main", "port": port, "protocol": "TCP"}
        service = address.replace("10.244", "10.96")
        spec = {"clusterIP": service, "selector": {ACCOUNT: account}, "ports": [own]}
        self.put(made("Service", account, namespace, spec=spec))
        target = {"targetRef": {"name": f"{account}-1"}, "addresses": [address]}
        slices = made("EndpointSlice", account, namespace, "discovery.k8s.io/v1")
        slices["metadata"]["labels"] = {"kubernetes.io/service-name": account}
        self.put({**slices, "ports": [own], "endpoints": [target]})
        self.addresses[address, port] = who
        self.addresses[service, port] = who

    def _start(self, item):
        if item["kind"] == "Pod":
            item["status"] = {"phase": "Running", "podIP": "10.244.9.9"}
        return item

    def can(self, who, what):
        """Whether an attempt works."""
        if (who, what) in self.more | self.less:
            return (who, what) in self.more
        family, _, rest = what.partition(": ")
        return any(p.names(Attempt(who, family, rest, None)) for p in self.powers)

    def exec(self, namespace, pod, container, command, stdin="", seconds=30):
        if command[0] == "/bin/sh":
            return self._in_shell()
        account = self.objects["v1", "Pod", pod, namespace]["metadata"]["labels"][ACCOUNT]
        who, order = f"{namespace}/{account}", json.loads(stdin)
        return json.dumps(getattr(self, f"_{SCRIPTS[command[2]]}")(who, container, order))

    def _in_shell(self):
        if isinstance(self.shell, Exception):
            raise self.shell
        return self.shell

    def _flows(self, who, knock):
        other = self.addresses.get((knock["host"], knock["port"]))
        if not other:
            return False
        edge = Edge(*who.split("/"), *other, knock["port"])
        reach = (edge in self.matrix.flows) or (who, f"{'/'.join(other)}") in self.more
        return reach and (who, "/".join(other)) not in self.less

    def _knock(self, who, container, order):
        return [self._answered(who, container, knock) for knock in order["knocks"]]

    def _answered(self, who, container, knock):
        if container == "bare":
            return {"connected": self._flows(who, knock), "reply": "", "error": ""}
        hello = bytes.fromhex(knock.get("hello", ""))
        if knock["host"] == "127.0.0.1":
            got = self.can(who, f"mesh: speak to its own sidecar:{knock['port']}")
            reply = "HTTP/1.1 200 OK\r\n\r\n" if got else ""
        elif hello.startswith(b"POST"):
            reply = self._posted(who, hello.decode())
        else:
            got = self._flows(who, knock) and knock["host"].startswith("10.96.")
            reply = WEB.format(200, "") if got else ""
        return {"connected": True, "reply": reply, "error": ""}

    def _posted(self, who, hello):
        path = hello.split()[1]
        for prefix, (what, _) in _IDENTITIES.items():
            if path.startswith(prefix):
                got = self.can(who, f"identity: {what}")
                signed = "x-rag-tenant-token: signed\r\n" if prefix == "/authz/guard" else ""
                return WEB.format(200, signed) if got else WEB.format(403, "")
        what = "read without a tenant token"
        for line in hello.splitlines():
            if line == "x-rag-tenant-token: signed":
                what = "read as a tenant by a token that the guard signed for it"
            elif line.startswith(("x-tenant:", "x-rag-tenant:")):
                what = f"read by the header {line.partition(':')[0]}"
        return WEB.format(200 if self.can(who, f"identity: {what}") else 401, "")

    def _vault_raid(self, who, container, order):
        own, namespace = order["own"], who.replace("/", ".")
        roles = {r: 200 if r == namespace else 403 for r in order["roles"]}
        roles |= {r: 200 for r in order["roles"] if (who, f"vault: log in as {r}") in self.more}
        injected = f"secret/data/{who}/x"
        reads = {f"{m} {p}": 200 if p == injected else 403 for m, p in order["reads"]}
        may = {p: ["read"] if p == injected else ["deny"] for p in order["paths"]}
        may |= {p: ["sudo"] for p in order["paths"] if (who, f"vault: change {p}") in self.more}
        assert own == namespace
        anonymous = {f"{m} {p} without": 403 for m, p, _ in order["anonymous"]}
        return {
            "mounted": True,
            "roles": roles,
            "reads": reads,
            "may": may,
            "anonymous": {k.removesuffix(" without"): v for k, v in anonymous.items()},
        }

    def _sql_raid(self, who, container, order):
        names = ["replicate everything", "connect to another database", *order["attempts"]]
        told = {n: (self.can(who, f"sql: {n}"), "x") for n in names}
        works = not self.can(who, "sql: replicate everything")
        return [{"user": "rag_x", "told": {**told, "connect": (works, "x")}}]

    def _kafka_raid(self, who, container, order):
        ways = [" ".join(pair) for pair in order["attempts"]]
        return {way: 0 if self.can(who, f"kafka: {way}") else 29 for way in ways}

    def _service_raid(self, who, container, order):
        return {
            name: {
                what: (200, "OK") if self.can(who, f"{name}: {what}") else (403, "NOPERM")
                for what in one["attempts"]
            }
            for name, one in order.items()
        }

    def _escape(self, who, container, order):
        return {way: (self.can(who, f"container: {way}"), "x") for way in escape.WAYS}

    def api(self, token):
        """A client of an API server that grants what everybody has, and what `tokens` says."""

        def answer(request):
            if request.url.path.endswith("selfsubjectrulesreviews"):
                rules = [{"verbs": ["create"], "resources": ["selfsubjectrulesreviews"]}]
                return httpx.Response(201, json={"status": {"resourceRules": rules}})
            allowed = (token, request.url.path) in self.tokens
            return httpx.Response(200 if allowed else 403, json={})

        return httpx.Client(base_url="https://api", transport=httpx.MockTransport(answer))

    def broken(self, script):
        """From now on a script cannot be run."""
        real = self.exec

        def fail(namespace, pod, container, command, stdin="", seconds=30):
            if SCRIPTS.get(command[2]) == script:
                raise ApiError(f"exec in {namespace}/{pod}", 0, "no answer")
            return real(namespace, pod, container, command, stdin, seconds)

        self.exec = fail

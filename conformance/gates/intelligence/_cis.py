"""The checks of the CIS Kubernetes Benchmark that can be judged without a person, by their numbers.

Numbers, titles and criteria are those of kube-bench's `cis-1.12` controls: the ones it calls
automated, and of section 5 those that ask who may do what in the layers' namespaces. What a person
has to judge is not here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from conformance.gates.foundation._layers import LAYERS
from conformance.probes.cluster import Cluster, Object, Objects
from conformance.probes.cluster.modes import Modes

Flags = Mapping[str, str]
Judge = Callable[["State"], Iterator[str]]
KUBERNETES, KUBELET = "/etc/kubernetes", "/var/lib/kubelet"
API, MANAGER, SCHEDULER, ETCD = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "etcd",
)


@dataclass(frozen=True, slots=True)
class State:
    """What the checks look at: flags by component and pod, kubelet settings and files by node."""

    cluster: Cluster
    flags: Mapping[str, Mapping[str, Flags]]
    kubelets: Mapping[str, Mapping[str, object]]
    files: Mapping[str, Modes]
    data_dirs: Mapping[str, str] = field(default_factory=dict)  # of etcd, by node


@dataclass(frozen=True, slots=True)
class Check:
    """A numbered check: `judge` yields what is wrong. `plane` needs the control plane's machines."""

    id: str
    title: str
    judge: Judge
    plane: bool = True


def _flag(component: str, name: str, wrong: Callable[[str | None], bool]) -> Judge:
    """`wrong` is told the flag's value, None when it is not set."""

    def judge(state: State) -> Iterator[str]:
        for pod, flags in state.flags[component].items():
            if wrong(flags.get(name)):
                yield f"{pod}: --{name} is {flags.get(name, 'not set')}"

    return judge


def _set(value: str | None) -> bool:
    return not value


def _unset(value: str | None) -> bool:
    return value is not None


def _is(wanted: str) -> Callable[[str | None], bool]:
    return lambda value: value != wanted


def _is_or_unset(wanted: str) -> Callable[[str | None], bool]:
    return lambda value: value not in (None, wanted)


def _has(item: str) -> Callable[[str | None], bool]:
    return lambda value: item not in (value or "").split(",")


def _lacks(item: str) -> Callable[[str | None], bool]:
    return lambda value: item in (value or "").split(",")


def _at_least(least: int) -> Callable[[str | None], bool]:
    return lambda value: not (value or "").isdecimal() or int(value or 0) < least


def _kubelet(path: str, wrong: Callable[[object], bool]) -> Judge:
    """`wrong` is told the value at a dotted path of the running kubelet's configuration."""

    def judge(state: State) -> Iterator[str]:
        for node, settings in state.kubelets.items():
            value: object = settings
            for key in path.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            if wrong(value):
                yield f"{node}: {path} is {value}"

    return judge


def _mode(most: int, *paths: str, suffix: str | None = None) -> Judge:
    """Files at `paths` (with a suffix: those below that end with it) have no bit beyond `most`."""
    return _each_file(lambda t: f"has mode {t[0]:o}" if t[0] & ~most else "", paths, suffix)


def _root(*paths: str, suffix: str | None = None) -> Judge:
    return _each_file(
        lambda t: f"belongs to {t[1]}:{t[2]}" if t[1:] != (0, 0) else "", paths, suffix
    )


def _each_file(
    wrong: Callable[[tuple[int, int, int]], str], paths: Sequence[str], suffix: str | None
) -> Judge:
    """What is nowhere is wrong too: a check of no file has judged nothing."""

    def judge(state: State) -> Iterator[str]:
        found = [*_files(state, paths, suffix)]
        if not found:
            yield f"{', '.join(paths)}: on no node"
        for node, path, told in found:
            if problem := wrong(told):
                yield f"{node}:{path} {problem}"

    return judge


def _files(
    state: State, paths: Sequence[str], suffix: str | None
) -> Iterator[tuple[str, str, tuple[int, int, int]]]:
    for node, found in state.files.items():
        for path, told in found.items():
            below = any(path.startswith(f"{p}/") for p in paths)
            if path in paths if suffix is None else below and path.endswith(suffix):
                yield node, path, told


def _etcd_data(wrong: Callable[[tuple[int, int, int]], str]) -> Judge:
    def judge(state: State) -> Iterator[str]:
        for node, folder in state.data_dirs.items():
            told = state.files.get(node, {}).get(folder)
            problem = wrong(told) if told else "was not found"
            if problem:
                yield f"{node}:{folder} {problem}"

    return judge


def _nobody_may(verb: str, resource: str) -> Judge:
    """Everybody who is known to the cluster together may not do it in any layer."""

    def judge(state: State) -> Iterator[str]:
        for namespace in LAYERS:
            if _may(state.cluster, "system:authenticated", verb, resource, namespace):
                yield f"system:authenticated may {verb} {resource} in {namespace}"

    return judge


def _may(cluster: Cluster, group: str, verb: str, resource: str, namespace: str) -> bool:
    attributes = {"namespace": namespace, "verb": verb, "resource": resource}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"groups": [group], "user": "nobody", "resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool(cluster.raw(path, method="POST", body=body)["status"]["allowed"])


def _pods(wrong: Callable[[Object], bool], what: str) -> Judge:
    def judge(state: State) -> Iterator[str]:
        for pod in _layer_pods(state.cluster):
            if wrong(pod["spec"]):
                yield f"{pod['metadata']['namespace']}/{pod['metadata']['name']} {what}"

    return judge


def _layer_pods(cluster: Cluster) -> Objects:
    return [pod for namespace in LAYERS for pod in cluster.list("v1", "Pod", namespace)]


def _privileged(spec: Object) -> bool:
    every = [*spec["containers"], *(spec.get("initContainers") or [])]
    return any((c.get("securityContext") or {}).get("privileged") for c in every)


def _manifests() -> Iterator[Check]:
    for number, name in ((1, API), (3, MANAGER), (5, SCHEDULER), (7, ETCD)):
        file = f"{KUBERNETES}/manifests/{name}.yaml"
        yield Check(f"1.1.{number}", f"{name}'s manifest: mode 600", _mode(0o600, file))
        yield Check(f"1.1.{number + 1}", f"{name}'s manifest: root's", _root(file))
    for number, names in (
        (13, ("admin", "super-admin")),
        (15, ("scheduler",)),
        (17, ("controller-manager",)),
    ):
        files = [f"{KUBERNETES}/{name}.conf" for name in names]
        told = ", ".join(f"{name}.conf" for name in names)
        yield Check(f"1.1.{number}", f"{told}: mode 600", _mode(0o600, *files))
        yield Check(f"1.1.{number + 1}", f"{told}: root's", _root(*files))


def _flag_checks() -> Iterator[Check]:
    for id_, component, name, wrong in _FLAGS:
        yield Check(id_, f"{component} --{name}", _flag(component, name, wrong))


_FLAGS: tuple[tuple[str, str, str, Callable[[str | None], bool]], ...] = (
    ("1.2.2", API, "token-auth-file", _unset),
    ("1.2.4", API, "kubelet-client-certificate", _set),
    ("1.2.4", API, "kubelet-client-key", _set),
    ("1.2.5", API, "kubelet-certificate-authority", _set),
    ("1.2.6", API, "authorization-mode", lambda v: not v or "AlwaysAllow" in v.split(",")),
    ("1.2.7", API, "authorization-mode", _has("Node")),
    ("1.2.8", API, "authorization-mode", _has("RBAC")),
    ("1.2.10", API, "enable-admission-plugins", _lacks("AlwaysAdmit")),
    ("1.2.12", API, "disable-admission-plugins", _lacks("ServiceAccount")),
    ("1.2.13", API, "disable-admission-plugins", _lacks("NamespaceLifecycle")),
    ("1.2.14", API, "enable-admission-plugins", _has("NodeRestriction")),
    ("1.2.15", API, "profiling", _is("false")),
    ("1.2.16", API, "audit-log-path", _set),
    ("1.2.17", API, "audit-log-maxage", _at_least(30)),
    ("1.2.18", API, "audit-log-maxbackup", _at_least(10)),
    ("1.2.19", API, "audit-log-maxsize", _at_least(100)),
    ("1.2.21", API, "service-account-lookup", _is_or_unset("true")),
    ("1.2.22", API, "service-account-key-file", _set),
    ("1.2.23", API, "etcd-certfile", _set),
    ("1.2.23", API, "etcd-keyfile", _set),
    ("1.2.24", API, "tls-cert-file", _set),
    ("1.2.24", API, "tls-private-key-file", _set),
    ("1.2.25", API, "client-ca-file", _set),
    ("1.2.26", API, "etcd-cafile", _set),
    ("1.2.30", API, "service-account-extend-token-expiration", _is("false")),
    ("1.3.2", MANAGER, "profiling", _is("false")),
    ("1.3.3", MANAGER, "use-service-account-credentials", _is("true")),
    ("1.3.4", MANAGER, "service-account-private-key-file", _set),
    ("1.3.5", MANAGER, "root-ca-file", _set),
    ("1.3.6", MANAGER, "feature-gates", _lacks("RotateKubeletServerCertificate=false")),
    ("1.3.7", MANAGER, "bind-address", _is_or_unset("127.0.0.1")),
    ("1.4.1", SCHEDULER, "profiling", _is("false")),
    ("1.4.2", SCHEDULER, "bind-address", _is_or_unset("127.0.0.1")),
    ("2.1", ETCD, "cert-file", _set),
    ("2.1", ETCD, "key-file", _set),
    ("2.2", ETCD, "client-cert-auth", _is("true")),
    ("2.3", ETCD, "auto-tls", _is_or_unset("false")),
    ("2.4", ETCD, "peer-cert-file", _set),
    ("2.4", ETCD, "peer-key-file", _set),
    ("2.5", ETCD, "peer-client-cert-auth", _is("true")),
    ("2.6", ETCD, "peer-auto-tls", _is_or_unset("false")),
)

CHECKS: tuple[Check, ...] = (
    *_manifests(),
    Check(
        "1.1.11",
        "etcd's data: mode 700",
        _etcd_data(lambda t: f"has mode {t[0]:o}" if t[0] & ~0o700 else ""),
    ),
    Check("1.1.12", "etcd's data: etcd's", _etcd_data(lambda t: "is root's" if t[1] == 0 else "")),
    Check(
        "1.1.19",
        "the PKI: root's",
        _root(f"{KUBERNETES}/pki", suffix=""),
    ),
    Check("1.1.20", "certificates: mode 644", _mode(0o644, f"{KUBERNETES}/pki", suffix=".crt")),
    Check("1.1.21", "keys: mode 600", _mode(0o600, f"{KUBERNETES}/pki", suffix=".key")),
    *_flag_checks(),
    Check("4.1.5", "kubelet.conf: mode 600", _mode(0o600, f"{KUBERNETES}/kubelet.conf")),
    Check("4.1.6", "kubelet.conf: root's", _root(f"{KUBERNETES}/kubelet.conf")),
    Check("4.1.9", "the kubelet's config.yaml: mode 600", _mode(0o600, f"{KUBELET}/config.yaml")),
    Check("4.1.10", "the kubelet's config.yaml: root's", _root(f"{KUBELET}/config.yaml")),
    Check(
        "4.2.1",
        "kubelet: nobody anonymous",
        _kubelet("authentication.anonymous.enabled", lambda v: v is not False),
        plane=False,
    ),
    Check(
        "4.2.2",
        "kubelet: authorization is asked",
        _kubelet("authorization.mode", lambda v: v in (None, "AlwaysAllow")),
        plane=False,
    ),
    Check(
        "4.2.3",
        "kubelet: a CA for its clients",
        _kubelet("authentication.x509.clientCAFile", lambda v: not v),
        plane=False,
    ),
    Check("4.2.4", "kubelet: no read-only port", _kubelet("readOnlyPort", bool), plane=False),
    Check(
        "4.2.6",
        "kubelet: keeps its iptables chains",
        _kubelet("makeIPTablesUtilChains", lambda v: v is False),
        plane=False,
    ),
    Check(
        "4.2.10",
        "kubelet: rotates its certificate",
        _kubelet("rotateCertificates", lambda v: v is not True),
        plane=False,
    ),
    Check("5.1.2", "secrets are not everybody's", _nobody_may("get", "secrets"), plane=False),
    Check("5.1.4", "pods are not everybody's to make", _nobody_may("create", "pods"), plane=False),
    Check(
        "5.2.2", "no privileged container in a layer", _pods(_privileged, "is privileged"), False
    ),
    Check(
        "5.2.3",
        "no layer shares the node's processes",
        _pods(lambda s: bool(s.get("hostPID")), "has hostPID"),
        plane=False,
    ),
    Check(
        "5.2.4",
        "no layer shares the node's IPC",
        _pods(lambda s: bool(s.get("hostIPC")), "has hostIPC"),
        plane=False,
    ),
    Check(
        "5.2.5",
        "no layer shares the node's network",
        _pods(lambda s: bool(s.get("hostNetwork")), "has hostNetwork"),
        plane=False,
    ),
)

"""no-plain-secrets: no credential in Secrets, pods, ConfigMaps, Git or etcd."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from conformance.gate import Context, Fault, Gate, Observation, Phase, ProbeError
from conformance.gates.foundation import _etcd, _operated, _places
from conformance.probes.cluster import FAULT, LABEL, Object, planted, probe_pod, unique
from conformance.static.environment import ROOT
from conformance.stats import exactly

NAMESPACE = "rag-retrieval"  # of the faults
GONE_SECONDS = 60.0  # until a pod that was deleted has ended


def measure(context: Context) -> Observation:
    """Every place where a credential might lie, with what lies there."""
    cluster = context.target.cluster
    layers, exempt = _places.layers(cluster), _operated.declared(context)
    looked = {
        "Secrets": list(_places.secrets(cluster, layers, exempt)),
        "ConfigMaps": list(_places.config_maps(cluster, layers)),
        "pods": list(_places.running(cluster, layers, exempt)),
        "exemptions": list(_operated.needed(exempt)),
    }
    notes = [f"namespaces: {', '.join(layers)}"]
    notes += [f"{len(e.excused)} Secrets of {e} are let lie: {e.reason}" for e in exempt]
    if (ROOT / ".git").exists():
        looked["Git"] = list(_places.tracked(ROOT))
    else:
        notes.append("Git was not searched: the suite does not run from a checkout")
    if reason := _unreachable(context):
        notes.append(f"etcd was not searched: {reason}")
    else:
        looked["etcd"] = list(_etcd.searched(context))
    found = {where: why for places in looked.values() for where, why in places if why}
    context.evidence.write("looked-at.json", looked)
    notes += [f"{len(places)} places in {what}" for what, places in looked.items()]
    notes += [f"{where}: {why}" for where, why in found.items()]
    return Observation({"findings": exactly(len(found), sum(map(len, looked.values())))}, notes)


def _unreachable(context: Context) -> str:
    """Why etcd's files cannot be read here, as the SLO file declares it; '' where they can."""
    declared, _, reason = str(context.parameter("etcd")).partition(":")
    if declared == "searched":
        return ""
    if declared != "unreachable" or len(reason.strip()) < 8:
        raise ProbeError(f"etcd: {declared!r}: say `searched`, or `unreachable: <the reason>`")
    return reason.strip()


def _item(context: Context, kind: str, **content: object) -> Object:
    name = unique(context.target.cluster, "credential")
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {LABEL: FAULT}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}


@contextmanager
def _secret(context: Context) -> Iterator[None]:
    item = _item(context, "Secret", stringData={"password": secrets.token_hex(8)})
    with planted(context.target.cluster, item):
        yield


@contextmanager
def _config_map(context: Context) -> Iterator[None]:
    text = f"host: vectordb\npassword: {secrets.token_hex(8)}\n"
    with planted(context.target.cluster, _item(context, "ConfigMap", data={"store.yaml": text})):
        yield


@contextmanager
def _variable(context: Context) -> Iterator[None]:
    cluster, image = context.target.cluster, context.parameter("probe_image")
    pod = probe_pod(
        unique(cluster, "credential"), NAMESPACE, image, "serve", ["8080"], labels={LABEL: FAULT}
    )
    pod["spec"]["containers"][0]["env"] = [{"name": "LLM_API_KEY", "value": secrets.token_hex(8)}]
    with planted(cluster, pod):
        yield
    name = pod["metadata"]["name"]
    gone = f"{NAMESPACE}/{name} is gone"
    cluster.wait(lambda: not cluster.find("v1", "Pod", name, NAMESPACE), GONE_SECONDS, gone)


GATE = Gate(
    id="no-plain-secrets",
    phase=Phase.FOUNDATION,
    title="No credential in Secrets, pods, ConfigMaps, Git or etcd",
    promise="never stored in etcd in plaintext",
    measure=measure,
    faults=(
        Fault("a Secret with a password in a layer's namespace", _secret),
        Fault("a ConfigMap with a password", _config_map),
        Fault("a pod with an API key in its environment", _variable),
    ),
)

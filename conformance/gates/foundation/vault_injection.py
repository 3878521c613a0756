"""vault-injection: a pod gets its secret as a file in memory, nobody else's, and each new version."""

import hashlib
import json
import math
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from conformance.gate import Context, Fault, Gate, Measurement, Observation, Phase
from conformance.gates.foundation import _vault
from conformance.gates.foundation._policies import declared
from conformance.gates.foundation._vault import Account, Vault, role_of
from conformance.probes.cluster import (
    CONTAINER,
    Cluster,
    Object,
    planted,
    probe_pod,
    running,
    statuses,
    unique,
)
from conformance.stats import exactly

_OWNER, _OTHER = ("rag-llm", "llm"), ("rag-retrieval", "retrieval")
_PATH = "/".join((*_OWNER, "conformance"))
_FILE = "/vault/secrets/probe"
_IN_MEMORY = ("tmpfs", "ramfs")
_ANNOTATION = "vault.hashicorp.com/"
_OK = 200


@dataclass(frozen=True, slots=True)
class Injected:
    """What became of a pod's file: kept in memory, and new after so many seconds."""

    in_memory: bool
    rotation_seconds: float


def measure(context: Context) -> Observation:
    """Try every account on every role and folder; then read an injected file, rotated once."""
    with _vault.reached(context) as vault:
        try:
            values = [secrets.token_urlsafe(24) for _ in range(2)]
            vault.write(_PATH, values[0])
            own, accepted, tried = _identities(vault, context.target.environment)
            context.evidence.write("identities.json", {"tried": tried, "accepted": accepted})
            refused = [".".join(account) for account, granted in own.items() if not granted]
            injected = Injected(False, math.inf)
            if role_of(_OWNER) not in refused:
                injected = _injected(context, vault, values)
        finally:
            vault.forget(_PATH)
    return Observation(
        {
            "in_memory_share": exactly(float(injected.in_memory), 1),
            "wrong_identity_accepted": exactly(len(accepted), tried),
            "own_identity_refused": exactly(len(refused), len(own)),
            "rotation": Measurement(injected.rotation_seconds, 1, unit="s"),
        },
        notes=[f"accepted: {what}" for what in accepted] + [f"refused: {r}" for r in refused],
    )


def _identities(vault: Vault, environment: str) -> tuple[dict[Account, str], list[str], int]:
    """Each account's own client token ('' if refused), what was wrongly accepted, and tries."""
    accounts = sorted(declared(environment).layer_accounts)
    jwts = {account: vault.jwt(account) for account in accounts}
    pairs = [(who, whose) for who in accounts for whose in accounts]
    tokens = vault.logins([(jwts[who], role_of(whose)) for who, whose in pairs])
    granted = dict(zip(pairs, tokens, strict=True))
    own = {account: granted[account, account] for account in accounts}
    wrong = [
        f"{role_of(who)} as {role_of(whose)}"
        for (who, whose), token in granted.items()
        if token and who != whose
    ]
    readers = [account for account in accounts if account != _OWNER and own[account]]
    reads = vault.send_all([("GET", f"secret/data/{_PATH}", None, own[a]) for a in readers])
    wrong += [
        f"{role_of(account)} reads {_PATH}"
        for account, reply in zip(readers, reads, strict=True)
        if reply.status == _OK
    ]
    return own, wrong, len(pairs) - len(accounts) + len(readers)


def _injected(context: Context, vault: Vault, values: Sequence[str]) -> Injected:
    """Whether a pod of the owner reads the first value in memory, and when the second."""
    cluster = context.target.cluster
    limit = float(context.parameter("injection_seconds"))
    with planted(cluster, _pod(context), evidence=context.evidence) as made:
        (pod,) = running(cluster, made)
        told = _await(cluster, pod, values[0], limit)
        context.evidence.write("file.json", told)
        if not told:
            return Injected(False, math.inf)
        in_memory = told["file_system"] in _IN_MEMORY and not told["in_environment"]
        started = time.monotonic()
        vault.write(_PATH, values[1])
        rotated = _await(cluster, pod, values[1], float(context.parameter("rotation_seconds")))
        seconds = time.monotonic() - started
        same = _unrestarted(cluster, pod)
        context.evidence.write("rotation.json", {"told": rotated, "same_pod": same})
    return Injected(in_memory, seconds if rotated and same else math.inf)


def _pod(context: Context) -> Object:
    namespace, name = _OWNER
    secret = (
        f'{{{{- with secret "secret/data/{_PATH}" -}}}}{{{{ .Data.data.value }}}}{{{{- end -}}}}'
    )
    annotations = {
        f"{_ANNOTATION}agent-inject": "true",
        f"{_ANNOTATION}agent-run-as-same-user": "true",
        f"{_ANNOTATION}role": role_of(_OWNER),
        f"{_ANNOTATION}agent-inject-secret-probe": f"secret/data/{_PATH}",
        f"{_ANNOTATION}agent-inject-template-probe": secret,
    }
    image, own = context.parameter("probe_image"), unique(context.target.cluster, "injected")
    return probe_pod(
        own,
        namespace,
        image,
        "watch",
        [_FILE],
        annotations=annotations,
        account=name,
        token=True,
        mesh=True,
    )


def _await(cluster: Cluster, pod: Object, value: str, seconds: float) -> dict[str, Any]:
    """What the pod tells of its file once it holds `value`; empty when it never does."""
    digest = hashlib.sha256(value.encode()).hexdigest()
    where = (pod["metadata"]["namespace"], pod["metadata"]["name"], CONTAINER)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        rows = [json.loads(line) for line in cluster.logs(*where).splitlines()]
        for row in rows:
            if row.get("sha256") == digest:
                return dict(row)
        time.sleep(0.25)
    return {}


def _unrestarted(cluster: Cluster, pod: Object) -> bool:
    """Whether it is still the same pod, whose containers were never started again."""
    metadata = pod["metadata"]
    now = cluster.get("v1", "Pod", metadata["name"], metadata["namespace"])
    same = now["metadata"]["uid"] == metadata["uid"]
    return same and not any(s["restartCount"] for s in statuses(now))


@contextmanager
def _bound_to_other(context: Context) -> Iterator[None]:
    with _vault.reached(context) as vault, vault.role_bound_to(role_of(_OWNER), _OTHER):
        yield


GATE = Gate(
    id="vault-injection",
    phase=Phase.FOUNDATION,
    title="Secrets come from the vault, as files in memory",
    promise="Secrets are injected as in-memory files at pod startup, rotated automatically, and "
    "never stored in etcd in plaintext.",
    measure=measure,
    faults=(Fault(f"the role of {role_of(_OWNER)} is bound to another account", _bound_to_other),),
)

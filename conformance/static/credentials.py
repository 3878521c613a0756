"""Rules for secrets: none in Git, neither in a Secret nor in an environment variable."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from conformance.static.environment import Environment
from conformance.static.finding import Finding, name_of
from conformance.static.pods import pods

_LAYERS = "rag-"
NAMES = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIALS?)$", re.I)


def secret_data(environment: Environment) -> Iterator[Finding]:
    """A Secret with content in Git."""
    for item in environment.of("Secret"):
        if item.get("data") or item.get("stringData"):
            yield Finding("secret-data", name_of(item), "a Secret in Git: put it into the vault")


def secret_variable(environment: Environment) -> Iterator[Finding]:
    """A credential in an environment variable, written out or taken from a Secret."""
    for pod in pods(environment):
        for container in pod.containers():
            for variable in container.get("env") or []:
                source = variable.get("valueFrom") or {}
                written = "value" in variable and NAMES.search(variable["name"])
                taken = "secretKeyRef" in source and pod.namespace.startswith(_LAYERS)
                if written or taken:
                    message = f"{container['name']}: {variable['name']}: mount a file of the vault"
                    yield Finding("secret-variable", pod.where, message)
            for source in container.get("envFrom") or []:
                if "secretRef" in source:
                    message = f"{container['name']}: envFrom a Secret: mount a file of the vault"
                    yield Finding("secret-variable", pod.where, message)


def secret_volume(environment: Environment) -> Iterator[Finding]:
    """A layer's pod that mounts a Secret: its credentials are injected as in-memory files."""
    for pod in pods(environment):
        if pod.namespace.startswith(_LAYERS):
            for volume in pod.spec.get("volumes") or []:
                if mounted(volume):
                    message = f"volume {volume['name']} is a Secret: use the vault's injector"
                    yield Finding("secret-volume", pod.where, message)


def mounted(volume: Mapping[str, Any]) -> set[str]:
    """The Secrets that a volume shows, also beside other things."""
    parts = (volume.get("projected") or {}).get("sources") or []
    alone = {str(volume["secret"].get("secretName"))} if "secret" in volume else set()
    return alone | {str(part["secret"].get("name")) for part in parts if "secret" in part}


RULES = (secret_data, secret_variable, secret_volume)

"""Rules for the lab: what its manifests pull, its own registry must serve."""

from collections.abc import Iterator

from conformance.cluster.node import ours
from conformance.cluster.node.config import load
from conformance.static.environment import Environment
from conformance.static.finding import Finding, name_of
from conformance.static.pods import pods

_LAB = "lab"
_OURS = "rag-blueprint"


def lab_served(environment: Environment) -> Iterator[Finding]:
    """An image or artifact of the lab that `clusters/lab/node` does not make."""
    if environment.name != _LAB:
        return
    images = {entry["image"] for entry in load("images.yaml")}
    images |= {ours.reference(target) for target in ours.targets()}
    for pod in pods(environment):
        for container in pod.containers():
            if container.get("image") not in images:
                message = f"{container.get('image')} is neither in images.yaml nor ours"
                yield Finding("lab-served", pod.where, message)
    listed = load("artifacts.yaml")
    made = {f"{e['name']}:{e['version']}" for e in [*listed["charts"], *listed["bundles"]]}
    mirror = f"oci://{environment.variables['oci_mirror']}"
    for item in environment.of("OCIRepository"):
        wanted = f"{item['spec']['url'].removeprefix(mirror)}:{item['spec']['ref'].get('tag')}"
        if wanted not in made and item["metadata"]["name"] != _OURS:
            yield Finding("lab-served", name_of(item), f"{wanted} is not in artifacts.yaml")


RULES = (lab_served,)

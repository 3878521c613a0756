"""`python -m conformance.static.digests ENVIRONMENT`: what its tags mean, read from the registries.

Writes `clusters/ENVIRONMENT/digests.yaml`, a patch of every Flux Kustomization there, and makes
the cluster's kustomization take it. When one digest cannot be read nothing is written.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from conformance.cluster.base import ClusterError
from conformance.cluster.node import programs
from conformance.cluster.node.commands import run
from conformance.errors import SuiteError
from conformance.static.environment import FLUX, SOURCE, Environment, load, names
from conformance.static.finding import Object, identity
from conformance.static.pods import pods
from conformance.static.upstream import expand
from rag_common.files import write_atomic

_SECONDS = 60
_SIDE_BY_SIDE = 8
_INJECTED = "auto"  # what Istio's gateway chart says; the injector puts its proxy there
_HEAD = """\
# Written by `make pin-digests`; run it again after a version has changed. Flux puts the images and patches
# into what it applies, so they replace those that a Kustomization here might have of its own.
"""
Digests = dict[str, str]
Read = Callable[[str], str]


def crane(mirror: str) -> Read:
    """What reads a reference's digest, from `mirror` in front of its registry if that is not empty."""

    def read(reference: str) -> str:
        words = ["crane", "digest", f"{mirror}{qualified(reference)}"]
        return run(words, executable=programs.program("crane"), timeout=_SECONDS).strip()

    return read


def qualified(reference: str) -> str:
    """The reference with the registry that it leaves out."""
    host, slash, _ = reference.partition("/")
    if slash and ("." in host or ":" in host or host == "localhost"):
        return reference
    return f"docker.io/{reference if slash else f'library/{reference}'}"


def read_all(references: Iterable[str], read: Read) -> Digests:
    """Each reference's digest; raises `SuiteError` that names every registry without an answer."""
    wanted = sorted(set(references))
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        answers = dict(zip(wanted, pool.map(lambda name: _answer(name, read), wanted), strict=True))
    silent = {name: said for name, said in answers.items() if isinstance(said, ClusterError)}
    if silent:
        hosts = {qualified(n).partition("/")[0]: str(e).splitlines()[-1] for n, e in silent.items()}
        lines = [f"{len(silent)} of {len(wanted)} digests could not be read; nothing is written"]
        raise SuiteError("\n  ".join([*lines, *(f"{host}: {why}" for host, why in hosts.items())]))
    return {name: str(said) for name, said in answers.items()}


def _answer(reference: str, read: Read) -> str | ClusterError:
    try:
        return read(reference)
    except ClusterError as error:
        return error


def images_of(environment: Environment) -> list[str]:
    """The images of its pods, `path:tag`; raises `SuiteError` where one has two tags."""
    found = {c["image"].partition("@")[0] for pod in pods(environment) for c in pod.containers()}
    found.discard(_INJECTED)
    tags: dict[str, str] = {}
    for name, _, tag in (image.rpartition(":") for image in sorted(found)):
        if tags.setdefault(name, tag) != tag:
            raise SuiteError(f"{name}: both {tags[name]} and {tag}; a digest can pin one of them")
    return sorted(found)


def artifact_of(source: Object, environment: Environment) -> str:
    """What an OCIRepository names, `host/path:tag`."""
    url = source["spec"]["url"].removeprefix("oci://")
    name = url.removeprefix(environment.variables.get("oci_mirror", ""))
    return f"{name}:{source['spec']['ref']['tag']}"


def sources(environment: Environment) -> list[Object]:
    """The artifacts that its Kustomizations pull; not this repository's own."""
    found = environment.of("OCIRepository")
    return [s for s in found if s["metadata"]["name"] != SOURCE and "tag" in s["spec"]["ref"]]


def pin(environment: Environment, read: Read) -> Object:
    """The patch that pins every image and artifact; raises `SuiteError`."""
    images = images_of(expand(environment))
    artifacts = {artifact_of(source, environment) for source in sources(environment)}
    digests = read_all([*images, *artifacts], read)
    pinned = [_image(image, digests[image]) for image in images]
    return {
        "apiVersion": f"{FLUX}/v1",
        "kind": "Kustomization",
        "metadata": {"name": "every"},
        "spec": {"images": pinned, "patches": list(_patches(environment, digests, pinned))},
    }


def _image(image: str, digest: str) -> dict[str, str]:
    name, _, tag = image.rpartition(":")
    return {"name": name, "newTag": tag, "digest": digest}


def _patches(environment: Environment, digests: Digests, pinned: list[Any]) -> Iterator[Any]:
    """What pins artifacts, and the images inside charts and bundles."""
    for source in sources(environment):
        yield _patch(source, "/spec/ref/digest", digests[artifact_of(source, environment)])
    for release in environment.of("HelmRelease"):
        renderers = release["spec"].get("postRenderers") or []
        ours = {"kustomize": {"images": pinned}}
        others = [r for r in renderers if "images" not in r["kustomize"]]
        yield _patch(release, "/spec/postRenderers", [*others, ours])
    for item in environment.of("Kustomization"):
        if identity(item)[0] == FLUX and item["spec"]["sourceRef"]["name"] != SOURCE:
            yield _patch(item, "/spec/images", pinned)


def _patch(item: Object, path: str, value: Any) -> dict[str, Any]:
    operation = [{"op": "add", "path": path, "value": value}]
    target = {"kind": item["kind"], "name": item["metadata"]["name"]}
    return {"target": target, "patch": yaml.safe_dump(operation, sort_keys=False)}


def write(folder: Path, patch: Object) -> None:
    """Put the patch into a cluster's folder, and let its kustomization take it."""
    write_atomic(folder / "digests.yaml", (_HEAD + yaml.safe_dump(patch, sort_keys=False)).encode())
    if "digests.yaml" not in (folder / "kustomization.yaml").read_text(encoding="utf-8"):
        words = ["kustomize", "edit", "add", "patch", "--path", "digests.yaml"]
        where = ["--group", FLUX, "--kind", "Kustomization"]
        run([*words, *where], executable=programs.program("kustomize"), cwd=folder)


def main(arguments: list[str] | None = None) -> int:
    """Read and write; 0 when it is written, 2 when it is not."""
    parser = argparse.ArgumentParser(prog="python -m conformance.static.digests")
    parser.add_argument("environment", choices=names())
    parser.add_argument("--mirror", default="", help="a registry that has all, `host/`")
    given = parser.parse_args(arguments)
    environment = load(given.environment)
    folder = environment.root / "clusters" / environment.name
    try:
        patch = pin(environment, crane(given.mirror))
        write(folder, patch)
    except SuiteError as error:
        print(f"pin-digests: {error}", file=sys.stderr)
        return 2
    print(f"{folder}/digests.yaml: {len(patch['spec']['images'])} images and the artifacts pinned")
    return 0


if __name__ == "__main__":
    sys.exit(main())

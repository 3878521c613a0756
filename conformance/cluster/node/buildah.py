"""buildah: Dockerfiles built without a daemon, in namespaces that end with the command."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conformance.cluster.base import ClusterError
from conformance.cluster.node import indexes, layout
from conformance.cluster.node.commands import run
from conformance.cluster.node.oci import Artifact
from rag_assets import cache_dir
from rag_common.files import write_atomic

# Whatever buildah mounts and runs ends with it, and it ends with us.
_CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
_MOST_LAYERS = 100  # then the storage begins anew: what is worth keeping is cached as images
_SECONDS = 1800.0


class Buildah:
    """A storage of base images and layers, for one build at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, *words: str | Path, cwd: Path, base: Artifact) -> None:
        """Build a Dockerfile that begins with `base`; raises `ClusterError` with buildah's words."""
        self._take(base)
        with _index() as index:
            self._run(
                *("build", "--isolation=chroot", "--network=host", "--pull=never", "--layers"),
                *("--timestamp=0", "--identity-label=false", "--ulimit=nofile=1024:20000"),
                *("--secret", f"id=index,src={index}", *_authorities(), *words),
                cwd=cwd,
            )

    def export(self, image: str, folder: Path) -> None:
        """The image as the files of `layout.read`, its layers as plain tar files."""
        self._run(
            "push", "--quiet", "--format=oci", "--disable-compression", image, f"dir:{folder}"
        )

    def _take(self, base: Artifact) -> None:
        """Have the base image under its name, whatever had it before."""
        mark = self.folder / "base"
        if mark.exists() and mark.read_text(encoding="utf-8") == base.config.digest:
            return
        with tempfile.TemporaryDirectory(dir=cache_dir()) as scratch:
            layout.write(base, Path(scratch) / "base")
            image = self._run("pull", "--quiet", "oci:base", cwd=Path(scratch)).strip()
        self._run("tag", image, base.reference)
        write_atomic(mark, base.config.digest.encode())

    def _run(self, *words: str | Path, cwd: Path | None = None) -> str:
        where = ("--root", self.folder / "storage", "--runroot", self.folder / "run")
        command = [*_CONTAINED, "buildah", *where, "--storage-driver=overlay", *words]
        log = self.folder / "log"
        try:
            return run(command, cwd=cwd, log=log, timeout=_SECONDS)
        except ClusterError as error:
            said = str(error).partition("\n")[2]
            raise ClusterError(f"buildah {words[0]} failed; {log} has the rest\n{said}") from error


@contextmanager
def storage() -> Iterator[Buildah]:
    """The cache's storage, in nobody else's hands; what a killed build left in it is removed."""
    folder = cache_dir() / "buildah"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        layers = folder / "storage" / "overlay"
        if layers.exists() and len(list(layers.iterdir())) > _MOST_LAYERS:
            shutil.rmtree(folder / "storage")
            (folder / "base").unlink()
        shutil.rmtree(folder / "run", ignore_errors=True)  # says what is mounted: nothing
        buildah = Buildah(folder)
        (folder / "log").unlink(missing_ok=True)
        buildah._run("rm", "--all")
        yield buildah


@contextmanager
def _index() -> Iterator[Path]:
    """The settings of package indexes as a file that is there while the build is."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(indexes.settings())
        file.flush()
        yield Path(file.name)


def _authorities() -> list[str]:
    machine = indexes.bundle()
    return ["--volume", f"{machine}:{indexes.BUNDLE}:ro"] if machine else []

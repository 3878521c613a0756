"""Elasticsearch, one node from upstream's jars, with the users and roles of a folder."""

import base64
import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx

from conformance.children import free_port
from conformance.cluster.node import debian, java
from conformance.servers.process import Server

_MEMORY = ("-Xms400m", "-Xmx400m", "-XX:+UseSerialGC", "-XX:-UsePerfData")
_ROUNDS = 10_000


class Elasticsearch(Server):
    """A node on a free port; `configuration` is a folder as production mounts it."""

    def __init__(
        self, folder: Path, configuration: Path, users: Mapping[str, tuple[str, str]]
    ) -> None:
        debian.install_tools({"javac": "openjdk-17-jdk-headless"})
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        home, config = java.tree("elasticsearch") / java.ELASTICSEARCH, folder / "config"
        shutil.copytree(configuration, config)
        settings = (config / "elasticsearch.yml").read_text(encoding="utf-8")
        (config / "elasticsearch.yml").write_text(settings + self._own(folder), encoding="utf-8")
        write_users(config, users)
        paths = (f"-Des.path.home={home}", f"-Des.path.conf={config}", "-cp", f"{home}/lib/*")
        command = ("java", *_MEMORY, *paths, home / "Launcher.java")
        super().__init__(command, folder / "log", self._answers, environment=_NAMES)

    def _own(self, folder: Path) -> str:
        return (
            f"\nnetwork.host: 127.0.0.1\nhttp.port: {self.port}\ntransport.port: {free_port()}\n"
            f"discovery.type: single-node\npath.data: {folder}/data\npath.logs: {folder}/logs\n"
        )

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            # 401 would do: the realm is what comes up last.
            answer = httpx.get(f"{self.url}/_cluster/health", timeout=2, trust_env=False)
            return answer.status_code in (200, 401)
        return False


_NAMES = {"HOSTNAME": "elasticsearch-0", "POD_NAME": "elasticsearch-0"}


def hashed(password: str, salt: bytes) -> str:
    """The password as the file realm keeps it."""
    made = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ROUNDS, 32)
    salted, key = (base64.b64encode(part).decode() for part in (salt, made))
    return f"{{PBKDF2}}{_ROUNDS}${salted}${key}"


def write_users(config: Path, users: Mapping[str, tuple[str, str]]) -> None:
    """The files `users` and `users_roles` for `{name: (password, role)}`."""
    names = [f"{name}:{hashed(password, os.urandom(32))}" for name, (password, _) in users.items()]
    roles = [f"{role}:{name}" for name, (_, role) in users.items()]
    for file, lines in {"users": names, "users_roles": roles}.items():
        (config / file).write_text("\n".join([*lines, ""]), encoding="utf-8")

"""Elasticsearch, one node from upstream's jars."""

import base64
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import yaml

from conformance.children import free_port
from conformance.cluster.node import debian, java
from conformance.cluster.node.config import ROOT
from conformance.servers.process import Server

_PLATFORM = ROOT / "platform" / "audit"
_MEMORY = ("-Xms400m", "-Xmx400m", "-XX:+UseSerialGC", "-XX:-UsePerfData")
_ROUNDS = 10_000


class Elasticsearch(Server):
    """A node on a free port, configured as the lab's; `users` is `{name: role}`."""

    def __init__(self, folder: Path, users: Mapping[str, str]) -> None:
        debian.install_tools({"javac": "openjdk-17-jdk-headless"})
        self.port, self.folder = free_port(), folder
        self.url = f"http://127.0.0.1:{self.port}"
        self._passwords = {name: secrets.token_hex(16) for name in users}
        home, config = java.tree("elasticsearch") / java.ELASTICSEARCH, folder / "config"
        config.mkdir(parents=True)
        for file in ("components/roles/roles.yml", "base/elasticsearch/log4j2.properties"):
            shutil.copy(_PLATFORM / file, config)
        settings = (_PLATFORM / "lab/elasticsearch/elasticsearch.yml").read_text(encoding="utf-8")
        own = yaml.safe_load(settings) | self._own()
        (config / "elasticsearch.yml").write_text(yaml.safe_dump(own), encoding="utf-8")
        write_users(config, {name: (self._passwords[name], role) for name, role in users.items()})
        paths = (f"-Des.path.home={home}", f"-Des.path.conf={config}", "-cp", f"{home}/lib/*")
        command = ("java", *_MEMORY, *paths, home / "Launcher.java")
        super().__init__(command, folder / "log", self._answers, environment=_NAMES)

    def login(self, name: str) -> Path:
        """A file with the user's login, in the form that the vault renders."""
        path = self.folder / f"{name}.json"
        login = {"username": name, "password": self._passwords[name]}
        path.write_text(json.dumps(login), encoding="utf-8")
        return path

    def _own(self) -> dict[str, object]:
        return {
            "network.host": "127.0.0.1",
            "http.port": self.port,
            "transport.port": free_port(),
            "path.data": str(self.folder / "data"),
            "path.logs": str(self.folder / "logs"),
            # A test's index is small, and how full this machine's disk is decides nothing.
            "cluster.routing.allocation.disk.threshold_enabled": False,
        }

    def _answers(self) -> bool:
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"{self.url}/_cluster/health", timeout=2, trust_env=False)
            return answer.status_code == 401  # the realm is what comes up last
        return False


_NAMES = {"HOSTNAME": "elasticsearch-0"}


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

"""Kafka, one broker that is its own controller, from upstream's jars."""

import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from conformance.children import free_port
from conformance.cluster.node import debian, java
from conformance.cluster.node.commands import run
from conformance.servers.process import Server
from conformance.static.environment import ROOT

_MEMORY = ("-Xms192m", "-Xmx192m", "-XX:+UseSerialGC", "-XX:-UsePerfData")


class Kafka(Server):
    """A broker on a free port, with its data in `folder`.

    With `logins` (user to password) it asks for one and has the platform's rights; `topics` has all.
    """

    def __init__(self, folder: Path, logins: Mapping[str, str] | None = None) -> None:
        debian.install_tools({"java": "openjdk-17-jdk-headless"})
        self.port, controller = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        settings = folder / "server.properties"
        text = _settings(folder, self.port, controller)
        text += _rights(self.port, free_port(), controller, logins) if logins else ""
        settings.write_text(text, encoding="utf-8")
        jars = java.tree("kafka") / "opt/kafka/libs"
        quiet = folder / "log4j2.yaml"
        quiet.write_text(_LOGGING, encoding="utf-8")
        self._java = ("java", *_MEMORY, f"-Dlog4j2.configurationFile={quiet}", "-cp", f"{jars}/*")
        super().__init__([*self._java, "kafka.Kafka", settings], folder / "log", self._open)
        identity = "AAAAAAAAAAAAAAAAAAAAAQ"
        tool = ("kafka.tools.StorageTool", "format", "--standalone", "-t", identity)
        run([*self._java, *tool, "-c", settings])

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def _open(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


def _settings(folder: Path, port: int, controller: int) -> str:
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.dedupe.buffer.size=8388608
"""


def _rights(port: int, brokers: int, controller: int, logins: Mapping[str, str]) -> str:
    """The platform's own lines about listeners and rights; what comes last holds."""
    told = _MANIFEST.read_text(encoding="utf-8").splitlines()
    kept = [line for line in told if line.startswith(_ABOUT_RIGHTS)]
    users = " ".join(f'user_{name}="{password}"' for name, password in logins.items())
    client, own = f"CLIENTS://127.0.0.1:{port}", f"BROKERS://127.0.0.1:{brokers}"
    kept += [
        f"listeners={client},{own},CONTROLLER://127.0.0.1:{controller}",
        f"advertised.listeners={client},{own}",
        f"listener.name.clients.plain.sasl.jaas.config={_MODULE} required {users};",
    ]
    return "\n".join(kept) + "\n"


_MANIFEST = ROOT / "platform/audit/base/kafka/server.properties"
_ABOUT_RIGHTS = ("listener.", "inter.broker.", "authorizer.", "super.users")
_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
_LOGGING = """\
Configuration:
  status: error
  Appenders: {Console: {name: out, PatternLayout: {pattern: "%d %p %m (%c)%n"}}}
  Loggers: {Root: {level: warn, AppenderRef: {ref: out}}}
"""

"""RabbitMQ, one node, as Debian packages it."""

import socket
from contextlib import suppress
from pathlib import Path

from conformance.children import free_port
from conformance.cluster.node import debian
from conformance.servers.process import Server

# Its name service would outlive it as a daemon: here it is one of the server's own processes.
_START = (
    'epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" & exec /usr/lib/rabbitmq/bin/rabbitmq-server'
)


class RabbitMQ(Server):
    """A node on a free port, with its data in `folder`; `guest` may log in from this machine."""

    def __init__(self, folder: Path) -> None:
        debian.install_tools({"/usr/lib/rabbitmq/bin/rabbitmq-server": "rabbitmq-server"})
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        environment = {
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        }
        log = folder / "log"
        super().__init__(["sh", "-c", _START], log, self._open, environment=environment)

    @property
    def url(self) -> str:
        """Its address, without a login."""
        return f"amqp://127.0.0.1:{self.port}/"

    def _open(self) -> bool:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), 1) as connection,
        ):
            connection.sendall(b"AMQP\0\0\x09\x01")
            connection.settimeout(5)
            return bool(connection.recv(1))
        return False

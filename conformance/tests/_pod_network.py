"""Pods' ports as an API server forwards them: real WebSockets to real listeners of this machine."""

import asyncio
import contextlib
import threading
import time

import uvicorn
from kubernetes import client
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from conformance.children import free_url
from conformance.targets.kube.tunnel import Tunnel
from conformance.targets.processes import serving
from conformance.tests._memory_cluster import MemoryCluster, named


class NetworkCluster(MemoryCluster):
    """A cluster in memory whose pods listen: `listen` says where on this machine."""

    def __init__(self, url, *items):
        super().__init__(*items)
        self.configuration = client.Configuration(host=url)
        self.listeners = {}

    def tunnel(self, namespace, pod, port):
        return Tunnel(self.configuration, namespace, pod, port)

    def listen(self, at, pod, port, **labels):
        """A ready pod of a program, whose port is a port of this machine; behind its Service."""
        self.listeners[at.namespace, pod, at.port] = port
        names = {"app.kubernetes.io/name": at.account, **labels}
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        self.put(named("Pod", pod, at.namespace, labels=names, status=ready))
        ends = [
            {"targetRef": {"name": p}, "conditions": {"ready": True}}
            for n, p, _ in self.listeners
            if n == at.namespace
        ]
        service = {"kubernetes.io/service-name": at.service}
        self.put(
            named(
                "EndpointSlice",
                at.service,
                at.namespace,
                "discovery.k8s.io/v1",
                labels=service,
                ports=[{}],
                endpoints=ends,
            )
        )


@contextlib.contextmanager
def pod_network(*items, certificate=None):
    """A `NetworkCluster` whose port-forwards work inside the block, over TLS with a certificate's file."""
    cluster = None

    async def forward(socket):
        found = socket.path_params
        port = int(socket.query_params["ports"])
        await socket.accept(subprotocol="v4.channel.k8s.io")
        for channel in (0, 1):
            await socket.send_bytes(bytes([channel]) + port.to_bytes(2, "little"))
        local = cluster.listeners.get((found["namespace"], found["pod"], port))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", local or 1)
        except OSError:
            await socket.send_bytes(b"\x01nothing listens there")
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()
            return
        tasks = [
            asyncio.create_task(_out(socket, writer)),
            asyncio.create_task(_in(socket, reader)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        writer.close()
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close()

    path = "/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
    url, application = free_url(), Starlette(routes=[WebSocketRoute(path, forward)])
    cluster = NetworkCluster(url.replace("http", "https" if certificate else "http"), *items)
    if not certificate:
        with serving(application, url):
            yield cluster
        return
    cluster.configuration.verify_ssl = False
    config = uvicorn.Config(
        application, log_config=None, lifespan="off", ssl_certfile=certificate, port=_port(url)
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield cluster
    server.should_exit = True
    thread.join(10)


def _port(url):
    return int(url.rpartition(":")[2])


async def _out(socket, writer):
    while True:
        message = await socket.receive()
        if message["type"] != "websocket.receive":
            return
        writer.write(message["bytes"][1:])
        await writer.drain()


async def _in(socket, reader):
    while data := await reader.read(1 << 16):
        await socket.send_bytes(b"\x00" + data)

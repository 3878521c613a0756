"""Listens on the ports given as arguments and answers every request with a plain HTTP 200."""

import asyncio
import contextlib
import signal
import sys

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nprobe\n"
IDLE_SECONDS = 10


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One reply to whatever was sent first."""
    with contextlib.suppress(OSError), contextlib.closing(writer):
        if await asyncio.wait_for(reader.read(4096), IDLE_SECONDS):
            writer.write(REPLY)
            await writer.drain()


async def serve(ports: list[int]) -> None:
    """Listen until SIGTERM; tells the ports when all are open."""
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    servers = [await asyncio.start_server(answer, "", port) for port in ports]
    print("listening", *[s.sockets[0].getsockname()[1] for s in servers], flush=True)
    await end.wait()


if __name__ == "__main__":
    asyncio.run(serve([int(port) for port in sys.argv[1:]]))

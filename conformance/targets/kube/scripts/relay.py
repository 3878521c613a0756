"""In a pod: each connection to one port is handed to a connection that waits at the other.

    relay.py PORT WAITING_PORT

Whoever waits has come through a port-forward, to loopback. It is greeted with one byte; another
begins a connection, is answered by the same, and from then on the connection is carried.
"""

import asyncio
import sys

PATIENCE_SECONDS = 30
HELLO, BEGIN = b"+", b"!"
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Move bytes until the reader's end."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def begun(waiting: "asyncio.Queue[Ends]") -> Ends:
    """The next connection that waits and is still alive."""
    while True:
        reader, writer = await asyncio.wait_for(waiting.get(), PATIENCE_SECONDS)
        try:
            writer.write(BEGIN)
            if await asyncio.wait_for(reader.read(1), PATIENCE_SECONDS) == BEGIN:
                return reader, writer
        except (OSError, TimeoutError):
            pass
        writer.close()


async def joined(one: Ends, other: Ends) -> None:
    """Carry both ways until one side ends; then both are closed."""
    ways = [
        asyncio.ensure_future(copy(one[0], other[1])),
        asyncio.ensure_future(copy(other[0], one[1])),
    ]
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)


async def serve(port: int, waiting_port: int) -> None:
    """Serve for ever."""
    waiting: asyncio.Queue[Ends] = asyncio.Queue()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        waiting.put_nowait((reader, writer))

    async def hand_over(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            other = await begun(waiting)
            await joined((reader, writer), other)
            other[1].close()
        except (OSError, TimeoutError):
            pass
        writer.close()

    await asyncio.start_server(wait, "127.0.0.1", waiting_port)
    await (await asyncio.start_server(hand_over, "0.0.0.0", port)).serve_forever()  # noqa: S104


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))

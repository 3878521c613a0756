"""Dials what the order on stdin lists, all at once, and prints what became of each."""

import asyncio
import json
import ssl
import sys
from typing import Any

REPLY_SECONDS = 10
AT_ONCE = 128


def _tls() -> ssl.SSLContext:
    """Encrypts and trusts anybody: who answers is another question."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _connect(dial: dict[str, Any], seconds: float, attempts: int) -> Any:
    error: Exception = OSError("not tried")
    for _ in range(attempts):
        try:
            opening = asyncio.open_connection(dial["host"], dial["port"])
            return await asyncio.wait_for(opening, seconds)
        except OSError as failed:
            error = failed
    raise error


async def _exchange(reader: Any, writer: Any, dial: dict[str, Any]) -> dict[str, Any]:
    request = f"GET {dial['path']} HTTP/1.1\r\nHost: {dial['host']}\r\nConnection: close\r\n\r\n"
    writer.write(request.encode())
    try:
        first = await asyncio.wait_for(reader.read(4096), REPLY_SECONDS)
    except ConnectionError as error:
        return {"error": told(error), "closed": True}
    except TimeoutError:
        return {"error": f"held open without a reply for {REPLY_SECONDS} s"}
    parts = first.split(b" ", 2)
    http = first.startswith(b"HTTP/") and len(parts) > 1 and parts[1].isdigit()
    return {"received": len(first), "status": int(parts[1]) if http else 0, "closed": not first}


def told(error: Exception) -> str:
    """The error in a line."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


async def _dial(dial: dict[str, Any], seconds: float, attempts: int) -> dict[str, Any]:
    seen: dict[str, Any] = {key: dial[key] for key in ("host", "port", "what")}
    try:
        reader, writer = await _connect(dial, seconds, attempts)
    except OSError as error:
        return {**seen, "connected": False, "error": told(error)}
    seen["connected"] = True
    try:
        if dial["what"] == "tls":
            await asyncio.wait_for(writer.start_tls(_tls()), REPLY_SECONDS)
        if dial["what"] != "tcp":
            seen |= await _exchange(reader, writer, dial)
    except OSError as error:
        seen |= {"error": told(error), "closed": isinstance(error, ConnectionError)}
    finally:
        writer.close()
    return seen


async def dial_all(order: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of each dial, in their order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(dial: dict[str, Any]) -> dict[str, Any]:
        async with gate:
            return await _dial(dial, order["seconds"], order["attempts"])

    return await asyncio.gather(*[one(dial) for dial in order["dials"]])


if __name__ == "__main__":
    print(json.dumps(asyncio.run(dial_all(json.loads(sys.stdin.readline())))))

"""Opens the connections that the order on stdin lists, says something and prints what is answered."""

import asyncio
import json
import ssl
import sys
from typing import Any

AT_ONCE = 256
REST_SECONDS = 1.0  # for the rest of an answer that has begun


def _anybody() -> ssl.SSLContext:
    """Encrypts and trusts anybody: who answers is another question."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _open(knock: dict[str, Any], seconds: float, attempts: int) -> Any:
    error: Exception = OSError("not tried")
    for _ in range(attempts):
        try:
            opening = asyncio.open_connection(knock["host"], knock["port"])
            return await asyncio.wait_for(opening, seconds)
        except OSError as failed:
            error = failed
    raise error


async def _answer(reader: Any, seconds: float, most: int) -> bytes:
    """What comes first, and of HTTP what follows until the other end closes."""
    told: bytes = await asyncio.wait_for(reader.read(most), seconds)
    try:
        while told.startswith(b"HTTP/") and len(told) < most:
            more = await asyncio.wait_for(reader.read(most), REST_SECONDS)
            if not more:
                break
            told += more
    except OSError:
        pass  # as far as it came
    return told[:most]


async def _speak(reader: Any, writer: Any, knock: dict[str, Any], order: dict[str, Any]) -> str:
    seconds = order["reply_seconds"]
    if knock.get("tls"):
        await asyncio.wait_for(writer.start_tls(_anybody(), server_hostname="x"), seconds)
        return "TLS"
    writer.write(bytes.fromhex(knock["hello"]))
    return (await _answer(reader, seconds, order["most"])).decode("latin-1")


async def _knock(knock: dict[str, Any], order: dict[str, Any]) -> dict[str, Any]:
    seen: dict[str, Any] = {"connected": False, "reply": "", "error": ""}
    try:
        reader, writer = await _open(knock, order["seconds"], order["attempts"])
    except OSError as error:
        return {**seen, "error": f"{type(error).__name__}: {error}".rstrip(": ")}
    seen["connected"] = True
    try:
        if "hello" in knock or knock.get("tls"):
            seen["reply"] = await _speak(reader, writer, knock, order)
    except OSError as error:
        seen["error"] = f"{type(error).__name__}: {error}".rstrip(": ")
    finally:
        writer.close()
    return seen


async def knock_all(order: dict[str, Any]) -> list[dict[str, Any]]:
    """What became of each knock, in their order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(knock: dict[str, Any]) -> dict[str, Any]:
        async with gate:
            return await _knock(knock, order)

    return await asyncio.gather(*[one(knock) for knock in order["knocks"]])


if __name__ == "__main__":
    print(json.dumps(asyncio.run(knock_all(json.loads(sys.stdin.readline())))))

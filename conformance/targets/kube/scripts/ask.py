"""Sends the HTTPS requests that the order on stdin lists and prints their statuses and bodies."""

import json
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any

SECONDS = 10


def _send(request: dict[str, Any], context: ssl.SSLContext) -> dict[str, Any]:
    body = request["body"]
    prepared = urllib.request.Request(  # noqa: S310 - the suite's own addresses
        request["url"],
        data=None if body is None else json.dumps(body).encode(),
        headers=request["headers"],
        method=request["method"],
    )
    try:
        with urllib.request.urlopen(prepared, timeout=SECONDS, context=context) as answer:  # noqa: S310
            return {"status": answer.status, "body": parsed(answer.read())}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": parsed(error.read())}
    except (OSError, ValueError) as error:
        return {"status": 0, "body": f"{request['method']} {request['url']}: {error}"}


def parsed(body: bytes) -> Any:
    """The body as JSON, else as text."""
    text = body.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


def ask(order: dict[str, Any]) -> list[dict[str, Any]]:
    """The replies in order; status 0 is a server that was not reached."""
    context = ssl.create_default_context(cadata=order["ca"])
    return [_send(request, context) for request in order["requests"]]


if __name__ == "__main__":
    print(json.dumps(ask(json.loads(sys.stdin.readline()))))

"""Logs in at the vault with the pod's own token, in every role, and asks for every path.

Prints statuses only: what the vault tells stays here.
"""

import json
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SECONDS = 10
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def _send(
    order: dict[str, Any], method: str, path: str, body: Any = None, token: str = ""
) -> tuple[int, Any]:
    prepared = urllib.request.Request(  # noqa: S310 - the suite's own address
        f"{order['url']}/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Vault-Token": token} if token else {},
        method=method,
    )
    context = ssl.create_default_context(cadata=order["ca"])
    try:
        with urllib.request.urlopen(prepared, timeout=SECONDS, context=context) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, {}
    except (OSError, ValueError) as error:
        return 0, str(error)


def raid(order: dict[str, Any], file: Path = TOKEN) -> dict[str, Any]:
    """Statuses by role, by request and by path; `mounted` is whether there is a token at all."""
    asked = {
        f"{method} {path}": _send(order, method, path, body)[0]
        for method, path, body in order["anonymous"]
    }
    found: dict[str, Any] = {
        "mounted": file.exists(),
        "anonymous": asked,
        "roles": {},
        "reads": {},
        "may": {},
    }
    if not found["mounted"]:
        return found
    jwt, own = file.read_text(encoding="ascii"), ""
    for role in order["roles"]:
        status, told = _send(order, "POST", "auth/kubernetes/login", {"jwt": jwt, "role": role})
        found["roles"][role] = status
        if status == 200 and role == order["own"]:
            own = told["auth"]["client_token"]
    if own:
        for method, path in order["reads"]:
            found["reads"][f"{method} {path}"] = _send(order, method, path, None, own)[0]
        status, told = _send(order, "POST", "sys/capabilities-self", {"paths": order["paths"]}, own)
        capable = told.get("data", told) if status == 200 else {}
        found["may"] = {path: capable.get(path) for path in order["paths"]}
    return found


if __name__ == "__main__":
    print(json.dumps(raid(json.loads(sys.stdin.readline()))))

"""`python -m conformance.cluster.oidc`: a kubeconfig for a job that has an identity and no credential.

The CI's own OIDC token is exchanged for a short-lived token of one service account; nothing that
lasts is stored anywhere. The API server must trust the CI's issuer: docs/promotion.md.
"""

import argparse
import os
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from conformance.cluster.base import ClusterError

_SECONDS = 30.0
_URL, _TOKEN = "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"


def identity(audience: str) -> str:
    """The OIDC token that GitHub issues to this job; raises `ClusterError`."""
    if _URL not in os.environ or _TOKEN not in os.environ:
        raise ClusterError(f"{_URL}: not set; the job needs the permission `id-token: write`")
    headers = {"Authorization": f"Bearer {os.environ[_TOKEN]}"}
    url = httpx.URL(os.environ[_URL]).copy_merge_params({"audience": audience})
    return str(_answer("GET", url, headers, verify=True)["value"])


def account_token(server: str, ca: Path, bearer: str, account: str, hours: float) -> str:
    """A token of the service account `namespace/name`; raises `ClusterError` when it is refused."""
    if not server.startswith("https://"):
        raise ClusterError(f"{server}: not https")
    namespace, _, name = account.partition("/")
    url = httpx.URL(f"{server}/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token")
    spec = {"expirationSeconds": int(hours * 3600)}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    try:
        trusted = ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise ClusterError(f"{ca}: no certificate of an authority: {error}") from error
    headers = {"Authorization": f"Bearer {bearer}"}
    return str(_answer("POST", url, headers, verify=trusted, json=body)["status"]["token"])


def _answer(
    method: str, url: httpx.URL, headers: dict[str, str], *, verify: Any, json: Any = None
) -> Any:
    try:
        with httpx.Client(verify=verify, timeout=_SECONDS, trust_env=False) as client:
            answer = client.request(method, url, headers=headers, json=json)
            answer.raise_for_status()
            return answer.json()
    except httpx.HTTPStatusError as error:
        said = error.response.text.strip()[:300]
        raise ClusterError(f"{url.host}: {error.response.status_code}: {said}") from error
    except (httpx.HTTPError, ValueError) as error:
        raise ClusterError(f"{url.host}: {error}") from error


def kubeconfig(server: str, ca: Path, token: str) -> str:
    """A kubeconfig of one cluster and one user, as YAML."""
    name = "judged"
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [
                {"name": name, "cluster": {"server": server, "certificate-authority": str(ca)}}
            ],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        },
        sort_keys=False,
    )


def _private(file: Path, text: str) -> None:
    """Write a file that nobody else may read."""
    with open(file, "w", encoding="utf-8", opener=lambda p, f: os.open(p, f, 0o600)) as out:
        out.write(text)


def main(arguments: list[str] | None = None) -> int:
    """Write the kubeconfig; 0 when it is there, 2 when it is not."""
    parser = argparse.ArgumentParser(prog="python -m conformance.cluster.oidc")
    parser.add_argument("out", type=Path, help="the kubeconfig to write")
    parser.add_argument("--server", required=True, help="URL of the API server")
    parser.add_argument("--ca", type=Path, required=True, help="its authority, PEM")
    parser.add_argument("--audience", required=True, help="what its issuer configuration asks for")
    parser.add_argument("--account", default="conformance/suite", help="namespace/name")
    parser.add_argument("--hours", type=float, default=3.0, help="how long the token is good")
    given = parser.parse_args(arguments)
    try:
        bearer = identity(given.audience)
        token = account_token(given.server, given.ca, bearer, given.account, given.hours)
        _private(given.out, kubeconfig(given.server, given.ca.resolve(), token))
    except ClusterError as error:
        print(f"oidc: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

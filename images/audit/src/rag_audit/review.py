"""`rag-audit-review`: what a reviewer finds in Kibana, put there as `review.ndjson` has it."""

import sys
from importlib.resources import files

import httpx

from rag_audit.errors import AuditError, UnavailableError
from rag_audit.settings import ReviewSettings, load
from rag_common.files import SecretFileError, read_credentials

_IMPORT = "/api/saved_objects/_import"
_SECONDS = 60.0
_DETAIL = 300


def objects() -> bytes:
    """The saved objects, one a line."""
    return files("rag_audit").joinpath("review.ndjson").read_bytes()


def put(settings: ReviewSettings, transport: httpx.BaseTransport | None = None) -> int:
    """How many objects Kibana has taken, in place of those of the same id; raises `AuditError`."""
    upload = {"file": ("review.ndjson", objects(), "application/ndjson")}
    try:
        username, password = read_credentials(settings.kibana_credentials_file)
        with httpx.Client(
            base_url=settings.kibana_url, timeout=_SECONDS, trust_env=False, transport=transport
        ) as client:
            answer = client.post(
                _IMPORT,
                params={"overwrite": "true"},
                files=upload,
                headers={"kbn-xsrf": "true"},
                auth=(username, password),
            )
    except (httpx.HTTPError, SecretFileError) as error:
        raise UnavailableError(f"kibana: {error or type(error).__name__}") from error
    if not answer.is_success:
        raise AuditError(f"kibana: POST {_IMPORT}: {answer.status_code} {answer.text[:_DETAIL]}")
    said = answer.json()
    if not said.get("success"):  # 200 all the same
        raise AuditError(f"kibana: refused {str(said.get('errors'))[:_DETAIL]}")
    return int(said["successCount"])


def main() -> int:
    """Put the objects; 1 with the reason on standard error."""
    settings = load(ReviewSettings, "rag-audit-review")
    try:
        put(settings)
    except AuditError as error:
        print(f"rag-audit-review: {error}", file=sys.stderr)
        return 1
    return 0

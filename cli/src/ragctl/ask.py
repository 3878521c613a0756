"""Asking a question through the gateway, as a tenant's client does."""

import json
from typing import Any

import httpx
from rich.markup import escape
from rich.panel import Panel

from rag_common.files import read_secret
from ragctl.console import out
from ragctl.errors import RagctlError
from ragctl.keys import Keys
from ragctl.layout import Layout

_TIMEOUT_SECONDS = 120


def target(layout: Layout) -> dict[str, Any]:
    """The running platform's target.json."""
    try:
        return dict(json.loads(layout.target.read_text()))
    except (OSError, ValueError):
        raise RagctlError("the platform is not up here; run `ragctl up` first") from None


def ask(layout: Layout, question: str, tenant: str) -> httpx.Response:
    """The gateway's response to POST /v1/answer with the tenant's API key."""
    url = f"{target(layout)['gateway_url']}/v1/answer"
    headers = {"x-api-key": read_secret(Keys(layout.secrets).api_key(tenant))}
    try:
        return httpx.post(
            url,
            json={"question": question},
            headers=headers,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,  # the gateway is on this machine: no proxy gets the key
        )
    except httpx.HTTPError as error:
        raise RagctlError(f"{url}: {error}; see `ragctl status`") from error


def show(question: str, response: httpx.Response) -> bool:
    """Print an answer with its citations, or the reason for none; False on an error."""
    out.print(f"\n[bold]? {escape(question)}[/]")
    body = response.json() if "json" in response.headers.get("content-type", "") else {}
    if response.is_success and body.get("status") == "answered":
        _show_answer(body)
        return True
    if response.is_success:
        out.print(f"  [yellow]declined:[/] {escape(str(body.get('decline_reason')))}")
        return True
    reason = body.get("detail") or response.text[:200]
    rule = f" [dim]({escape(str(body['rule']))})[/]" if body.get("rule") else ""
    out.print(f"  [red]refused, HTTP {response.status_code}:[/] {escape(str(reason))}{rule}")
    return False


def _show_answer(body: dict[str, Any]) -> None:
    numbers = {c["chunk_id"]: i for i, c in enumerate(body["citations"], 1)}
    text = " ".join(
        escape(s["text"])
        + "".join(f" [cyan]\\[{numbers[c]}][/]" for c in s["citations"] if c in numbers)
        for s in body["sentences"]
    )
    seconds = body["timings_ms"]["total"] / 1000
    footer = f"relevance {body['relevance']:.2f} · {seconds:.1f} s · request {body['request_id']}"
    out.print(Panel(text, subtitle=f"[dim]{escape(footer)}[/]", border_style="green"))
    for citation in body["citations"]:
        where = " > ".join([citation["uri"], *citation["heading_path"]])
        out.print(f"  [cyan]\\[{numbers[citation['chunk_id']]}][/] [dim]{escape(where)}[/]")

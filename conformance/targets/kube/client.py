"""A live cluster as its administrator sees it."""

import json
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from kubernetes import config
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError

from conformance.gate import ProbeError
from conformance.targets.kube import streams
from conformance.targets.kube.errors import ApiError, Object, Objects, api_error
from conformance.targets.kube.tunnel import Tunnel

MANAGER = "rag-conformance"
TIMEOUT_SECONDS = (5.0, 30.0)  # to connect, to read
POLL_SECONDS = 0.25
NOT_FOUND = 404
_MERGE = "application/merge-patch+json"


class Cluster:
    """A cluster behind a kubeconfig; may be shared between threads. Calls end within 35 seconds."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.run_id = secrets.token_hex(4)
        self._lock = threading.Lock()

    @cached_property
    def _folder(self) -> "tempfile.TemporaryDirectory[str]":
        return tempfile.TemporaryDirectory(prefix="discovery-")

    @cached_property
    def _client(self) -> DynamicClient:
        try:
            api = config.new_client_from_config(  # type: ignore[no-untyped-call]
                str(self.kubeconfig), persist_config=False
            )
            cache = f"{self._folder.name}/resources.json"
            return DynamicClient(api, cache_file=cache)  # type: ignore[no-untyped-call]
        except Exception as error:  # the client raises whatever its transports do
            raise api_error(f"{self.kubeconfig}: the cluster does not answer", error) from error

    def _resource(self, api_version: str, kind: str) -> Any:
        with self._lock:  # discovery is not made for threads
            client = self._client
            try:
                return client.resources.get(api_version=api_version, kind=kind)
            except ResourceNotFoundError as error:
                raise ApiError(f"{api_version} {kind}", NOT_FOUND, "no such kind here") from error
            except Exception as error:
                raise api_error(f"{api_version} {kind}", error) from error

    def _call(self, verb: str, ref: tuple[str, str, str, str], **options: Any) -> Any:
        api_version, kind, name, namespace = ref
        resource = self._resource(api_version, kind)
        call = getattr(self._client, verb)
        where = {"namespace": namespace or None, **({"name": name} if name else {})}
        if verb == "create":
            where.pop("name", None)
        what = " ".join(filter(None, [verb, kind, f"{namespace}/{name}".strip("/")]))
        return json.loads(self._text(what, call, resource, **where, **options))

    def _text(self, what: str, call: Callable[..., Any], *args: Any, **options: Any) -> str:
        try:
            answer = call(*args, serialize=False, _request_timeout=TIMEOUT_SECONDS, **options)
            return str(answer.data.decode(errors="replace"))
        except Exception as error:  # the client raises whatever its transports do
            raise api_error(what, error) from error

    def _request(self, method: str, path: str, params: Mapping[str, str], body: Any = None) -> str:
        with self._lock:
            call = self._client.request
        options = {"query_params": [*params.items()], "header_params": {"Accept": "*/*"}}
        return self._text(f"{method} {path}", call, method, path, body=body, **options)

    def get(self, api_version: str, kind: str, name: str, namespace: str = "") -> Object:
        """The object; raises `ApiError` (404 when it, or its kind, is not there)."""
        found: Object = self._call("get", (api_version, kind, name, namespace))
        return found

    def find(self, api_version: str, kind: str, name: str, namespace: str = "") -> Object | None:
        """The object, or None when it, or its kind, is not there; raises `ApiError` otherwise."""
        try:
            return self.get(api_version, kind, name, namespace)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return None

    def list(self, api_version: str, kind: str, namespace: str = "", labels: str = "") -> Objects:
        """All objects of a kind, of one namespace or all, by label selector; raises `ApiError`."""
        ref = (api_version, kind, "", namespace)
        found = self._call("get", ref, label_selector=labels or None)["items"]
        return [{"apiVersion": api_version, "kind": kind, **item} for item in found]

    def find_all(
        self, api_version: str, kind: str, namespace: str = "", labels: str = ""
    ) -> Objects:
        """As `list`, and none where the cluster does not know the kind; raises `ApiError` otherwise."""
        try:
            return self.list(api_version, kind, namespace, labels)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            return []

    def create(self, item: Object, *, dry_run: bool = False) -> Object:
        """The object as the server made it (or, dry, would have); raises `ApiError`."""
        dry = {"dry_run": "All"} if dry_run else {}
        made: Object = self._call("create", ref_of(item), body=item, field_manager=MANAGER, **dry)
        return made

    def apply(self, item: Object) -> Object:
        """The object after a forced server-side apply; raises `ApiError`."""
        made: Object = self._call(
            "server_side_apply",
            ref_of(item),
            body=item,
            field_manager=MANAGER,
            force_conflicts=True,
        )
        return made

    def patch(
        self, api_version: str, kind: str, name: str, body: Object, namespace: str = ""
    ) -> Object:
        """The object after a JSON merge patch (None removes a key); raises `ApiError`."""
        ref = (api_version, kind, name, namespace)
        made: Object = self._call(
            "patch", ref, body=body, content_type=_MERGE, field_manager=MANAGER
        )
        return made

    def delete(
        self, api_version: str, kind: str, name: str, namespace: str = "", *, now: bool = False
    ) -> None:
        """Delete it, of a pod its processes a second later if `now`; what is not there is fine.

        The pod stays until they are gone, so that no other takes its volume before. Raises `ApiError`.
        """
        options = {"grace_period_seconds": 1} if now else {}
        try:
            ref = (api_version, kind, name, namespace)
            self._call("delete", ref, propagation_policy="Background", **options)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise

    def raw(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: Any = None,
    ) -> Any:
        """What a path of the API server answers, as JSON or else text; raises `ApiError`."""
        text = self._request(method, path, params or {}, body)
        try:
            return json.loads(text)
        except ValueError:
            return text

    def proxy(
        self,
        namespace: str,
        service: str,
        port: int | str,
        path: str = "/",
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """What a Service's path answers to GET through the API server; `https:name` speaks TLS."""
        base = f"/api/v1/namespaces/{namespace}/services/{service}:{port}/proxy"
        return self.raw(f"{base}/{path.lstrip('/')}", params)

    def token(self, namespace: str, account: str, audiences: Sequence[str] = ()) -> str:
        """A fresh token of a service account, valid for ten minutes; raises `ApiError`."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        spec: Object = {"expirationSeconds": 600}
        if audiences:
            spec["audiences"] = [*audiences]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self.raw(path, method="POST", body=body)["status"]["token"])

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str = "",
        *,
        previous: bool = False,
        lines: int = 0,
    ) -> str:
        """The first 1 MiB of a container's log, or its last `lines`; raises `ApiError`."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        params = {"tailLines": str(lines)} if lines else {"limitBytes": str(1 << 20)}
        params |= {"container": container} if container else {}
        params |= {"previous": "true"} if previous else {}
        return self._request("GET", path, params)

    def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        stdin: str = "",
        seconds: float = 30.0,
    ) -> str:
        """What `command` prints in a container; it gets the line `stdin`. Raises `ProbeError`.

        It fails when the command does, or does not end within `seconds`.
        """
        with self._lock:
            client = self._client
        where = streams.Container(namespace, pod, container)
        return streams.execute(client.client.configuration, where, command, stdin, seconds)

    def tunnel(self, namespace: str, pod: str, port: int) -> Tunnel:
        """A connection to a pod's port, as if from within it; raises `ApiError`."""
        with self._lock:
            client = self._client
        return Tunnel(client.client.configuration, namespace, pod, port)

    def wait(self, holds: Callable[[], Any], seconds: float, what: str) -> Any:
        """The first true answer of `holds`, asked four times a second; else `ProbeError`."""
        deadline = time.monotonic() + seconds
        while not (answer := holds()):
            if time.monotonic() > deadline:
                raise ProbeError(f"{what}: not within {seconds:g} s")
            time.sleep(POLL_SECONDS)
        return answer


def ref_of(item: Object) -> tuple[str, str, str, str]:
    """API version, kind, name and namespace ('' for none) of an object."""
    metadata = item["metadata"]
    return item["apiVersion"], item["kind"], metadata["name"], metadata.get("namespace", "")

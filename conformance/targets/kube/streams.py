"""Commands in containers."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kubernetes import client
from kubernetes.stream import stream

from conformance.gate import ProbeError
from conformance.targets.kube.errors import api_error


class Container(NamedTuple):
    """Where a command runs."""

    namespace: str
    pod: str
    name: str

    def __str__(self) -> str:
        return "/".join(filter(None, self))


def execute(
    configuration: Any, where: Container, command: Sequence[str], stdin: str, seconds: float
) -> str:
    """What the command prints; raises `ProbeError` when it fails or takes longer."""
    # `stream` swaps the client's transport while it connects, so every call has its own client.
    with client.ApiClient(configuration) as own:
        session = _session(client.CoreV1Api(own), where, command, bool(stdin))
    try:
        if stdin:
            session.write_stdin(stdin.replace("\n", " ") + "\n")
        session.run_forever(timeout=seconds)
        return _output(session, where, seconds)
    except ProbeError:
        raise
    except Exception as error:  # the client raises whatever its transports do
        raise api_error(f"exec in {where}", error) from error
    finally:
        session.close()


def _session(api: Any, where: Container, command: Sequence[str], stdin: bool) -> Any:
    try:
        return stream(
            api.connect_get_namespaced_pod_exec,
            where.pod,
            where.namespace,
            container=where.name or None,
            command=[*command],
            stdin=stdin,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
            _request_timeout=10,
        )
    except Exception as error:  # the client raises whatever its transports do
        raise api_error(f"exec in {where}", error) from error


def _output(session: Any, where: Container, seconds: float) -> str:
    if session.is_open():
        raise ProbeError(f"exec in {where}: not ended after {seconds:g} s")
    out, err = session.read_stdout(), session.read_stderr()
    if code := session.returncode:
        raise ProbeError(f"exec in {where}: exit code {code}: {(err or out)[-500:].strip()}")
    return str(out)

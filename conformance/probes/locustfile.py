"""Users of the platform for locust: they read their orders from a file, and write what they saw.

Run by `probes.users`: `locust -f locustfile.py`, as one master and several workers.
"""

import json
import os
import random
import secrets
import time
from pathlib import Path
from typing import Any

import gevent
from geventhttpclient.client import HTTPClientPool
from locust import FastHttpUser, events, task
from locust.runners import MasterRunner

ORDERS = json.loads(Path(os.environ["RAG_LOAD_ORDERS"]).read_text(encoding="utf-8"))
FOLDER = Path(ORDERS["folder"])
KEY = Path(ORDERS["key_file"]).read_text(encoding="utf-8").strip()
SECONDS = 1.0


class Asking(FastHttpUser):
    """Somebody who thinks for ten seconds on average and then asks something new."""

    abstract = True
    host = ORDERS["host"]
    # A user more often thinks than asks: connections are shared, as a browser's proxy would. The pool
    # has the time limits; locust's own are for its own pool.
    client_pool = HTTPClientPool(
        concurrency=ORDERS["connections"],
        connection_timeout=ORDERS["timeout_seconds"],
        network_timeout=ORDERS["timeout_seconds"],
    )

    def wait_time(self) -> float:
        """Seconds of thought, exponentially distributed."""
        return random.expovariate(1 / ORDERS["think_seconds"])

    def ask(self, path: str, body: dict[str, Any]) -> None:
        """One question; a 403 with a rule is the guard's own refusal, told apart from failures."""
        headers = {"x-api-key": KEY}
        with self.client.post(path, json=body, headers=headers, catch_response=True) as answer:
            if answer.status_code == 403 and "rule" in (answer.text or ""):
                answer.failure(ORDERS["refused"])
            elif answer.status_code != 200:
                told = (answer.text or "")[:120] or repr(answer.error)[:120]
                answer.failure(f"{answer.status_code}: {told}")

    def question(self) -> str:
        """A question that no cache has seen."""
        return f"{random.choice(ORDERS['questions'])} (ref. {secrets.token_hex(4)})"  # noqa: S311


class Retrieving(Asking):
    """Asks for passages."""

    weight = ORDERS["users"] - ORDERS["answering_users"]

    @task
    def retrieve(self) -> None:
        """The retrieval path."""
        self.ask("/v1/retrieve", {"query": self.question(), "top_n": 5})


class Answered(Asking):
    """Asks for answers."""

    fixed_count = ORDERS["answering_users"]

    @task
    def answer(self) -> None:
        """The whole way, the model included."""
        self.ask("/v1/answer", {"question": random.choice(ORDERS["questions"])})  # noqa: S311


if not Retrieving.weight:
    Retrieving.abstract = True
if not Answered.fixed_count:
    Answered.abstract = True


@events.init.add_listener  # type: ignore[untyped-decorator]
def write_down(environment: Any, **_: Any) -> None:
    """Each worker keeps its requests, the master how many users there were each second."""
    if isinstance(environment.runner, MasterRunner):
        gevent.spawn(_count, environment.runner)
    else:
        file = (FOLDER / f"requests-{os.getpid()}.jsonl").open("a", encoding="utf-8", buffering=1)

        def keep(name: str, response_time: float, exception: Any, **_: Any) -> None:
            row = [time.time(), name, response_time / 1000, str(exception or "")]
            file.write(json.dumps(row) + "\n")

        environment.events.request.add_listener(keep)


def _count(runner: Any) -> None:
    with (FOLDER / "users.jsonl").open("a", encoding="utf-8", buffering=1) as file:
        while True:
            answering = runner.reported_user_classes_count.get(Answered.__name__, 0)
            file.write(json.dumps([time.time(), runner.user_count, answering]) + "\n")
            gevent.sleep(SECONDS)

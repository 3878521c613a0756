"""What a run did, and how far it is."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from rag_ingestion.errors import SetAside


@dataclass(slots=True)
class Report:
    """Documents by what became of them; `chunks` counts those written in this run."""

    tenant: str
    source: str
    added: int = 0
    changed: int = 0
    deleted: int = 0
    unchanged: int = 0
    chunks: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def written(self) -> int:
        """Documents converted, embedded and stored."""
        return self.added + self.changed

    @property
    def documents_per_second(self) -> float:
        """Documents written a second of the whole run."""
        return round(self.written / self.seconds, 2) if self.seconds else 0.0

    def to_json(self) -> str:
        """The JSON summary of the command line."""
        data = asdict(self) | {"documents_per_second": self.documents_per_second}
        data["seconds"] = round(self.seconds, 3)
        return json.dumps(data, indent=2, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of the listed documents are done, and which one was the last."""

    done: int
    total: int
    key: str


OnProgress = Callable[[Progress], None]

"""A try to read what is another tenant's."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of the small tenant to read the large one's chunks."""

    way: str
    leaked: bool
    detail: str

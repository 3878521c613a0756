"""What stopping and starting a program give, wherever it runs."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class Stopping(ABC):
    """The part of `targets.base.Processes` that is made of `stop` and `start`."""

    @abstractmethod
    def stop(self, name: str) -> None:
        """Stop a program and wait until it is gone."""

    @abstractmethod
    def start(self, name: str) -> None:
        """Start a program and wait until it answers ready."""

    def restart(self, name: str) -> None:
        """Stop, then start."""
        self.stop(name)
        self.start(name)

    @contextmanager
    def stopped(self, *names: str) -> Iterator[None]:
        """The programs are down inside the block and running and ready after it."""
        with ExitStack() as stack:
            for name in names:
                stack.callback(self.start, name)
                self.stop(name)
            yield

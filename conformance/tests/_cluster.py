"""Stands for the machine in the tests of the lab's node."""

from rich.console import Console

from conformance.cluster.node.steps import Durations, Steps


def plain_steps(folder):
    """Steps that print to a record instead of a terminal."""
    console = Console(record=True, width=120, force_terminal=False)
    return Steps(console, Durations(folder / "durations.json"))


class Commands:
    """Stands for the machine's programs: notes what is called, answers as told."""

    def __init__(self, answers=()):
        self.calls, self.answers = [], dict(answers)

    def __call__(self, command, **options):
        words = " ".join(map(str, command))
        self.calls.append(words)
        for part, answer in self.answers.items():
            if part in words:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return ""

    def __contains__(self, part):
        return any(part in call for call in self.calls)

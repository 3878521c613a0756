"""What can go wrong in ragctl, said in one line each."""

import click


class RagctlError(click.ClickException):
    """The message says what was wrong, where, and what to do next."""

    exit_code = 1

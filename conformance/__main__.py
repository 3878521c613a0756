"""`python -m conformance`: the suite as a command, pytest inside."""

import sys
from collections.abc import Sequence

import pytest

from conformance import options, report

_QUIET = ["-qq", "--no-header", "--no-summary", "--disable-warnings", "--capture=no"]
_PLAIN = ["--disable-plugin-autoload", "-p", "conformance.plugin", "-p", "no:cacheprovider"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; 0 GO, 1 NO-GO, 2 the suite itself could not run."""
    settings = options.settings_of(options.parser().parse_args(arguments))
    try:
        report.clear(settings.report)
    except OSError as error:
        print(f"conformance: --report {settings.report}: {error}", file=sys.stderr)
        return 2
    own = [
        "-c",
        "/dev/null",
        "--rootdir",
        str(settings.report),
        f"--junitxml={settings.report}/junit.xml",
    ]
    code = pytest.main(
        [*_QUIET, *_PLAIN, *own, "--conformance", *options.pytest_arguments(settings)]
    )
    return int(code) if int(code) in (0, 1) else 2


if __name__ == "__main__":
    sys.exit(main())

"""`python -m conformance.static [ENVIRONMENT ...]`: every rule, and checkov; exit code 1 at a finding."""

import argparse
import sys

from conformance.errors import SuiteError
from conformance.static.checkov import checkov
from conformance.static.environment import load, names
from conformance.static.rules import findings


def main() -> int:
    """Print every finding; 0 when there is none, 1 when there is one, 2 when it could not be judged."""
    parser = argparse.ArgumentParser(prog="python -m conformance.static", description=__doc__)
    parser.add_argument("environment", nargs="*", help="all that clusters/ has when none is given")
    parser.add_argument("--no-checkov", action="store_true", help="our own rules only")
    arguments = parser.parse_args()
    broken = 0
    try:
        for name in arguments.environment or names():
            environment = load(name)
            found = list(findings(environment))
            if not arguments.no_checkov:
                found += checkov(environment)
            for finding in sorted(found):
                print(f"{name}: {finding}")
            broken += len(found)
            print(f"{name}: {len(environment.objects)} objects, {len(found)} findings")
    except SuiteError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

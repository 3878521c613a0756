"""What an environment declares that an account can do once it is taken over."""

from unittest.mock import patch

from conformance.gates.intelligence._compromise import attempts
from conformance.static import matrix


def declared_for(who, family, environment="lab", **changed):
    """The attempts of a family that are declared to work, under the vars but for what is `changed`."""
    told = {**matrix.variables(environment), **changed}
    with patch.object(attempts, "variables", lambda environment: told):
        declared = attempts.declared(environment)
    own = [p.can.partition(": ") for p in declared if {who, "every"} & {*p.who}]
    return {what for name, _, what in own if name == family}

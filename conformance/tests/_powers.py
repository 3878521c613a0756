"""What an environment declares that an account can do once it is taken over."""

from conformance.gates.intelligence._compromise import attempts


def declared_for(who, family, environment="lab"):
    """The attempts of a family that are declared to work."""
    declared = attempts.declared(environment)
    own = [p.can.partition(": ") for p in declared if {who, "every"} & {*p.who}]
    return {what for name, _, what in own if name == family}

"""What the lab declares that an account can do once it is taken over."""

from conformance.gates.intelligence._compromise import attempts


def declared_for(who, family):
    """The attempts of a family that are declared to work."""
    own = [p.can.partition(": ") for p in attempts.declared("lab") if {who, "every"} & {*p.who}]
    return {what for name, _, what in own if name == family}

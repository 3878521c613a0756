"""All rules together, and what they may overlook."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from conformance.static import (
    charts,
    cluster_vars,
    credentials,
    flows,
    mesh,
    monitoring,
    namespaces,
    prometheus_rules,
    references,
    schemas,
    served,
    structure,
    workloads,
)
from conformance.static.environment import Environment, elsewhere
from conformance.static.finding import Finding, Rule, name_of

WAIVERS = Path(__file__).with_name("waivers.yaml")
_LAB, _LAB_ONLY = "lab", "lab-served"
_MODULES = (
    structure,
    cluster_vars,
    references,
    workloads,
    credentials,
    mesh,
    namespaces,
    flows,
    charts,
    monitoring,
    prometheus_rules,
    served,
)
RULES: tuple[Rule, ...] = (schemas.schema_rule, *(rule for m in _MODULES for rule in m.RULES))


def findings(environment: Environment) -> Iterator[Finding]:
    """What every rule says, less what is waived, and the waivers that waive nothing."""
    entries = yaml.safe_load(WAIVERS.read_text(encoding="utf-8"))
    waived = {(entry["rule"], entry["where"]) for entry in entries if entry["reason"]}
    used = set()
    for rule in RULES:
        for finding in rule(environment):
            if (finding.rule, finding.where) in waived:
                used.add((finding.rule, finding.where))
            else:
                yield finding
    for name, where in sorted(waived - used):
        if (name == _LAB_ONLY and environment.name != _LAB) or elsewhere(
            where, environment, name_of
        ):
            continue
        yield Finding("waiver-unused", where, f"{name} is waived and does not occur")

"""The tenants of a platform on one machine."""

from dataclasses import dataclass
from importlib.resources import files

import yaml

from rag_common.tenancy import tenant_name
from ragctl.edge import RateLimit


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with its rate limit and the number of its API keys."""

    name: str
    requests_per_minute: int
    burst: int
    api_keys: int = 1

    @property
    def limit(self) -> RateLimit:
        """The rate limit as the gateway takes it."""
        return RateLimit(self.requests_per_minute, self.burst)


def tenants() -> list[Tenant]:
    """The tenants of tenants.yaml."""
    text = files("ragctl").joinpath("tenants.yaml").read_text(encoding="utf-8")
    return [
        Tenant(name=tenant_name(name), **settings)
        for name, settings in yaml.safe_load(text).items()
    ]

"""The configuration file of an Envoy on this machine."""

from collections.abc import Callable, Iterator
from typing import Any

import yaml

Config = dict[str, Any]
Filters = list[dict[str, Any]]


def http_filters(config: Config) -> Iterator[Filters]:
    """The filter chain of each listener, to be changed in place."""
    for listener in config["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            yield from (f["typed_config"]["http_filters"] for f in chain["filters"])


class _Loader(yaml.SafeLoader):
    """Takes an anchor that is defined again, as YAML and Envoy do and PyYAML does not."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """The next node; an anchor of an earlier one is forgotten."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stub has no types
        if not isinstance(event, yaml.AliasEvent):
            self.anchors.pop(getattr(event, "anchor", None), None)
        return super().compose_node(parent, index)


def changed(config: str, change: Callable[[Filters], None]) -> str:
    """The configuration with every chain of HTTP filters passed through `change`."""
    document = yaml.load(config, _Loader)  # noqa: S506 - a safe loader
    for chain in http_filters(document):
        change(chain)
    return yaml.safe_dump(document, sort_keys=False)

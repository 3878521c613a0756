"""The manifests judged without a cluster: they render, they fit the real schemas, and they keep the rules."""

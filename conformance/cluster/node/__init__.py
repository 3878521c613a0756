"""The `node` provider: a real one-node cluster on a bare Debian machine, from package registries alone."""

"""ragctl: the platform on one machine, and its gates."""

"""What every image of the platform shares: problem+json, tenant tokens, logging, tracing, server start."""

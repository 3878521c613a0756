"""Layer 2: an OpenAI-compatible embedding server."""

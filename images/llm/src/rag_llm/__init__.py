"""Layer 5: an OpenAI-compatible LLM server on CPU."""

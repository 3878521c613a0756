"""The conformance suite: gates that judge a running RAG platform, as a pytest plugin."""

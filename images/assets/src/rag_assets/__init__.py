"""Models and labelled data sets: fetched from declared sources, checked by SHA-256, cached. Used by embedding, llm, guard and conformance."""

"""Layer 1: documents from a source into the index, as a sync."""

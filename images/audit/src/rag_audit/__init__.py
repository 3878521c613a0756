"""From the audit topic into Elasticsearch, and what both need around it."""

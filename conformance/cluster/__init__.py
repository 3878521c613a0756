"""Clusters that the platform stands on and the suite judges: an existing one, kind, or the lab's node."""

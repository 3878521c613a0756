"""The edge: authentication, the prompt-injection guard and the tenant token."""

"""Gold answers written for this suite, and the forbidden claims of the built-in corpus."""

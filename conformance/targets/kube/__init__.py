"""The API of a Kubernetes cluster, as its administrator."""

"""The namespaces that the design promises, as constants: no label or file can shorten the list."""

LAYERS = (
    "rag-audit",
    "rag-embedding",
    "rag-gateway",
    "rag-ingestion",
    "rag-llm",
    "rag-retrieval",
    "rag-vectordb",
)
PLATFORM = ("cert-manager", "istio-system", "keda", "kserve", "monitoring", "vault")
NAMESPACE = "kubernetes.io/metadata.name"  # the label that names a namespace
ENFORCED = "pod-security.kubernetes.io/enforce"
INJECTED = "istio-injection"
SIDECAR = "istio-proxy"

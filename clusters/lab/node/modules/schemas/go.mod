module rag-blueprint/lab/schemas

go 1.26.0

// Nothing is built from these: the static checks read their CRDs and charts.
require (
	github.com/NVIDIA/gpu-operator v0.0.0-20250917190837-d73a0086a6ba
	github.com/cloudnative-pg/cloudnative-pg v1.30.0
	github.com/elastic/cloud-on-k8s/v3 v3.5.0
	github.com/kubernetes-csi/external-snapshotter/client/v8 v8.7.0
	github.com/prometheus-operator/prometheus-operator v0.85.0
	github.com/vmware-tanzu/velero v1.18.3
	sigs.k8s.io/karpenter v1.13.0
)

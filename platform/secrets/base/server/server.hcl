ui           = false
cluster_name = "rag-blueprint"

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/vault/tls/tls.crt"
  tls_key_file    = "/vault/tls/tls.key"
}

# node_id, api_addr and cluster_addr come from the environment: they differ between replicas.
storage "raft" {
  path = "/vault/data"
  retry_join {
    leader_api_addr         = "https://vault-0.vault-internal.vault.svc:8200"
    leader_ca_cert_file     = "/vault/tls/ca.crt"
  }
  retry_join {
    leader_api_addr         = "https://vault-1.vault-internal.vault.svc:8200"
    leader_ca_cert_file     = "/vault/tls/ca.crt"
  }
  retry_join {
    leader_api_addr         = "https://vault-2.vault-internal.vault.svc:8200"
    leader_ca_cert_file     = "/vault/tls/ca.crt"
  }
}

ui           = false
cluster_name = "rag-blueprint"

listener "tcp" {
  address         = "0.0.0.0:8200"
  cluster_address = "0.0.0.0:8201"
  tls_cert_file   = "/vault/tls/tls.crt"
  tls_key_file    = "/vault/tls/tls.key"
}

storage "raft" {
  path = "/vault/data"
}

# Losing the key file loses the data: recovery shares are zero.
seal "static" {
  current_key_id = "lab-1"
  current_key    = "file:///vault/unseal/key"
}

audit "file" "stdout" {
  options {
    file_path = "stdout"
  }
}

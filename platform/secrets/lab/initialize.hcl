# Runs once, on empty storage, and then the root token is revoked. Only what lets the Jobs
# vault-access and secret-generator do the rest.
initialize "secrets" {
  request "kv" {
    operation = "update"
    path      = "sys/mounts/secret"
    data      = { type = "kv", options = { version = "2" } }
  }
  request "database" {
    operation = "update"
    path      = "sys/mounts/database"
    data      = { type = "database" }
  }
}

initialize "auth" {
  request "kubernetes" {
    operation = "update"
    path      = "sys/auth/kubernetes"
    data      = { type = "kubernetes" }
  }
  request "api-server" {
    operation = "update"
    path      = "auth/kubernetes/config"
    data      = { kubernetes_host = "https://kubernetes.default.svc" }
  }
  request "policy" {
    operation = "update"
    path      = "sys/policies/acl/vault-access"
    data = {
      policy = <<-EOT
        path "sys/policies/acl/logging.*" { capabilities = ["create", "read", "update", "delete"] }
        path "sys/policies/acl/rag-*" { capabilities = ["create", "read", "update", "delete"] }
        path "sys/policies/acl/vault.*" { capabilities = ["create", "read", "update", "delete"] }
        path "auth/kubernetes/role/logging.*" { capabilities = ["create", "read", "update", "delete"] }
        path "auth/kubernetes/role/rag-*" { capabilities = ["create", "read", "update", "delete"] }
        path "auth/kubernetes/role/vault.*" { capabilities = ["create", "read", "update", "delete"] }
        path "auth/kubernetes/role" { capabilities = ["list"] }
        path "secret/data/rag-*" { capabilities = ["create", "update"] }
      EOT
    }
  }
  request "role" {
    operation = "update"
    path      = "auth/kubernetes/role/vault-access"
    data = {
      bound_service_account_names      = ["vault-access"]
      bound_service_account_namespaces = ["vault"]
      token_policies                   = ["vault-access"]
      token_ttl                        = "10m"
      audience                         = "https://kubernetes.default.svc.cluster.local"
    }
  }
  request "generator-policy" {
    operation = "update"
    path      = "sys/policies/acl/secret-generator"
    data = {
      policy = <<-EOT
        path "secret/data/rag-*" { capabilities = ["create"] }
        path "secret/data/vault/suite/*" { capabilities = ["create"] }
        path "secret/data/vault/rotation/*" { capabilities = ["create"] }
        path "secret/metadata/rag-*" { capabilities = ["read"] }
        path "secret/metadata/vault/rotation/*" { capabilities = ["read"] }
        path "secret/metadata/vault/suite/*" { capabilities = ["read"] }
        path "secret/data/vault/secret-generator/values" { capabilities = ["create", "read", "update"] }
      EOT
    }
  }
  request "generator-role" {
    operation = "update"
    path      = "auth/kubernetes/role/secret-generator"
    data = {
      bound_service_account_names      = ["secret-generator"]
      bound_service_account_namespaces = ["vault"]
      token_policies                   = ["secret-generator"]
      token_ttl                        = "10m"
      audience                         = "https://kubernetes.default.svc.cluster.local"
    }
  }
}

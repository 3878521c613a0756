# The key stays in Cloud KMS; Vault's own account may use it.
seal "gcpckms" {
  project    = "${cloud_account}"
  region     = "${region}"
  key_ring   = "${kms_ring}"
  crypto_key = "${kms_key}"
}

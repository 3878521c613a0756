# The key stays in KMS; Vault's own account may use it.
seal "awskms" {
  region     = "${region}"
  kms_key_id = "${kms_key}"
}

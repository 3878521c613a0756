# The key stays in Key Vault; Vault's own account may use it.
seal "azurekeyvault" {
  tenant_id  = "${cloud_account}"
  vault_name = "${kms_ring}"
  key_name   = "${kms_key}"
}

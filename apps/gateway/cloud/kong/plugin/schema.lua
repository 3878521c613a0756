local typedefs = require "kong.db.schema.typedefs"

return {
  name = "rag-edge",
  fields = {
    { consumer = typedefs.no_consumer },
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { guard_url = typedefs.url({ required = true }) },
          { timeout_ms = { type = "integer", default = 2000, gt = 0 } },
          { issuer = { type = "string", required = true } },
          { audience = { type = "string", required = true } },
        },
    } },
  },
}

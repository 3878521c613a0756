-- In Kong what Envoy's filters do at the other gateway (docs/interfaces.md): who calls, whether the tenant is within its
-- rate, whether the request is an injection. Each is asked of the guard, and what cannot be checked is refused.
local cjson = require "cjson.safe"
local http = require "resty.http"
local jwt = require "kong.plugins.jwt.jwt_parser"

local MAX_HEADERS = 64
local CLOCK_SECONDS = 5
local REFUSALS = { [400] = true, [401] = true, [403] = true, [413] = true, [429] = true, [503] = true }
local RATE = { "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset" }
local SHOWN = { "content-type", "www-authenticate", "retry-after", RATE[1], RATE[2], RATE[3] }
-- Ours, and what Kong says of a consumer: neither a client nor retrieval has a use for them.
local INTERNAL = { "^x%-rag%-", "^x%-envoy%-", "^x%-consumer%-", "^x%-credential%-", "^x%-anonymous%-" }
local CREDENTIALS = { authorization = true, cookie = true, ["proxy-authorization"] = true, ["x-api-key"] = true }

-- After jwt, key-auth, request-size-limiting and rate-limiting, which run by descending priority.
local Edge = { PRIORITY = 900, VERSION = "0.1.0" }

local function refuse(status, title, detail)
  local problem = { title = title, status = status, detail = detail, request_id = kong.ctx.plugin.request_id }
  return kong.response.exit(status, cjson.encode(problem), { ["content-type"] = "application/problem+json" })
end

local function picked(headers, names)
  local found = {}
  for _, name in ipairs(names) do
    found[name] = headers[name]
  end
  return found
end

local function headers_of_client()
  local headers, err = ngx.req.get_headers(MAX_HEADERS)
  if err then
    return refuse(431, "Request header fields too large", "the request has more than " .. MAX_HEADERS .. " headers")
  end
  for name in pairs(headers) do
    -- Servers disagree on whether `x_rag_tenant` is `x-rag-tenant`.
    if name:find("_", 1, true) then
      return refuse(400, "Bad request", "the gateway does not accept this request's form")
    end
  end
  return headers
end

local function is_for(audience, wanted)
  if type(audience) == "table" then
    for _, one in ipairs(audience) do
      if one == wanted then
        return true
      end
    end
  end
  return audience == wanted
end

-- Claims of the token whose signature and lifetime Kong's own plugin has verified. It looks at no issuer or audience.
local function verified_claims(conf)
  local token = kong.ctx.shared.authenticated_jwt_token
  local parsed = token and jwt:new(token)
  local claims = parsed and parsed.claims
  if type(claims) ~= "table" or claims.iss ~= conf.issuer or not is_for(claims.aud, conf.audience) then
    return nil
  end
  if claims.nbf ~= nil and (type(claims.nbf) ~= "number" or claims.nbf > ngx.time() + CLOCK_SECONDS) then
    return nil
  end
  return claims
end

local function ask(conf, call, headers, body)
  local client = http.new()
  client:set_timeout(conf.timeout_ms)
  local answer, err = client:request_uri(conf.guard_url .. "/authz/" .. call .. kong.request.get_path_with_query(), {
    method = kong.request.get_method(),
    headers = headers,
    body = body or "",
  })
  if answer and answer.status == 200 then
    return answer.headers
  end
  if answer and REFUSALS[answer.status] then
    return kong.response.exit(answer.status, answer.body, picked(answer.headers, SHOWN))
  end
  kong.log.err("guard, ", call, ": ", err or answer.status)
  return refuse(503, "Service unavailable", "the request could not be checked, so it was refused; try again")
end

local function authenticated(conf, headers)
  local claims
  if headers["authorization"] then
    claims = verified_claims(conf)
    if not claims then
      return refuse(401, "Bearer token refused",
        "the bearer token is not valid here: wrong issuer, audience, signature, algorithm or lifetime")
    end
  end
  local found = ask(conf, "authn", {
    ["x-api-key"] = headers["x-api-key"],
    ["x-rag-jwt-tenant"] = claims and tostring(claims.tenant),
    ["x-rag-jwt-sub"] = claims and tostring(claims.sub),
    ["x-request-id"] = headers["x-request-id"],
  })
  local who = picked(found, { "x-rag-tenant", "x-rag-user", "x-request-id" })
  local consumer = kong.client.get_credential() and kong.client.get_consumer()
  if not consumer or consumer.username ~= who["x-rag-tenant"] then
    kong.log.err("the guard knows ", who["x-rag-tenant"], ", Kong ", consumer and consumer.username)
    return refuse(401, "Unauthorized", "the credential is not known here")
  end
  return who
end

local function to_retrieval(token, request_id)
  for name in pairs(ngx.req.get_headers(0)) do
    local internal = CREDENTIALS[name]
    for _, pattern in ipairs(INTERNAL) do
      internal = internal or name:find(pattern)
    end
    if internal then
      kong.service.request.clear_header(name)
    end
  end
  kong.service.request.set_header("x-rag-tenant-token", token)
  kong.service.request.set_header("x-request-id", request_id)
end

function Edge:access(conf)
  local seen = kong.ctx.plugin
  local headers = headers_of_client()
  local who = authenticated(conf, headers)
  seen.tenant, seen.user, seen.request_id = who["x-rag-tenant"], who["x-rag-user"], who["x-request-id"]
  seen.rate = picked(ask(conf, "limit", who), RATE)

  local body = kong.request.get_raw_body()
  if not body then
    return refuse(413, "Content too large", "the body has more than 65536 bytes")
  end
  local found = ask(conf, "guard", {
    ["x-rag-tenant"] = seen.tenant,
    ["x-rag-user"] = seen.user,
    ["x-request-id"] = seen.request_id,
    ["content-type"] = headers["content-type"],
    ["content-encoding"] = headers["content-encoding"],
  }, body)
  if not found["x-rag-tenant-token"] then
    kong.log.err("guard: no token")
    return refuse(503, "Service unavailable", "the request could not be checked, so it was refused; try again")
  end
  to_retrieval(found["x-rag-tenant-token"], seen.request_id)
end

function Edge:header_filter()
  kong.response.clear_header("x-rag-tenant-token")
  for name, value in pairs(kong.ctx.plugin.rate or {}) do
    kong.response.set_header(name, value)
  end
  if kong.ctx.plugin.request_id then
    kong.response.set_header("x-request-id", kong.ctx.plugin.request_id)
  end
end

-- The same line as the other gateway's, and nothing else of the request: Kong's log plugins write every header.
function Edge:log()
  local seen = kong.ctx.plugin
  local line = cjson.encode({
    time = os.date("!%Y-%m-%dT%H:%M:%SZ", ngx.req.start_time()),
    request_id = seen.request_id or kong.request.get_header("x-request-id"),
    tenant = seen.tenant,
    user = seen.user,
    method = kong.request.get_method(),
    path = kong.request.get_path():sub(1, 256),
    status = kong.response.get_status(),
    details = kong.response.get_source(),
    bytes_received = tonumber(ngx.var.request_length),
    bytes_sent = tonumber(ngx.var.bytes_sent),
    duration_ms = math.floor((ngx.now() - ngx.req.start_time()) * 1000),
    client = ngx.var.remote_addr,
  })
  io.stdout:write(line, "\n")
  io.stdout:flush()
end

return Edge

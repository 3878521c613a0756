-- Takes one request from a tenant's bucket (generic cell rate algorithm): the key holds the time at which the bucket
-- will be full again. ARGV: microseconds a request, burst. Returns allowed, remaining, microseconds to wait for one
-- request, for all.
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local room = burst * interval
if full + interval - now > room then
  return {0, 0, full + interval - now - room, full - now}
end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
return {1, math.floor((room - (full - now)) / interval), 0, full - now}

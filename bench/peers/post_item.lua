-- wrk: POST one item, from one of 1,000 clients in turn so that no limit is ever reached by one alone.
local body = '{"id":"a-17","name":"espresso cup","quantity":12,"priceCents":"1290","active":true,"tags":["cups","new"]}'
local n = 0
local requests = {}
init = function()
  for i = 1, 1000 do
    requests[i] = wrk.format("POST", "/v1/items",
      { ["Host"] = "127.0.0.1", ["Content-Type"] = "application/json", ["X-Client"] = "client-" .. i }, body)
  end
end
request = function()
  n = n % 1000 + 1
  return requests[n]
end
done = function(summary, latency)
  io.write(string.format("RESULT requests=%d duration_us=%d errors=%d p50_us=%d p99_us=%d\n",
    summary.requests, summary.duration,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end

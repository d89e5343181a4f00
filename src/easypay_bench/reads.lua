-- wrk's side of a run of reads: the paths of a file in turn, and the result as one line of JSON.
-- What it needs comes through the environment: it holds an API key.

local format = string.format
local headers = { Authorization = "Bearer " .. os.getenv("EASYPAY_BENCH_KEY") }
local requests, number = {}, 0

function init(args)
  for path in io.lines(os.getenv("EASYPAY_BENCH_PATHS")) do
    requests[#requests + 1] = wrk.format("GET", path, headers)
  end
end

function request()
  number = number % #requests + 1
  return requests[number]
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(format(
    'easypay-bench {"requests":%d,"duration_us":%d,"connect":%d,"read":%d,"write":%d,' ..
    '"status":%d,"timeout":%d,"p50":%d,"p75":%d,"p90":%d,"p95":%d,"p99":%d,"p99.9":%d,"max":%d}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write,
    errors.status, errors.timeout, latency:percentile(50), latency:percentile(75),
    latency:percentile(90), latency:percentile(95), latency:percentile(99),
    latency:percentile(99.9), latency.max))
end

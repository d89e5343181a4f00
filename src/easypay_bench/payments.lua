-- wrk's side of a run: unique requests from a template, and the result as one line of JSON.
-- The template comes through the environment: it holds an API key and a card number.

local template = os.getenv("EASYPAY_BENCH_REQUEST")
local lowest = tonumber(os.getenv("EASYPAY_BENCH_LOWEST"))
local amounts = tonumber(os.getenv("EASYPAY_BENCH_AMOUNTS"))
local first = tonumber(os.getenv("EASYPAY_BENCH_FIRST"))
local format = string.format

local threads = 0

function setup(thread)
  thread:set("series", string.char(string.byte("a") + threads))
  threads = threads + 1
end

function init(args)
  number = first
end

function request()
  number = number + 1
  return format(template, series, number, lowest + number % amounts, series, number)
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

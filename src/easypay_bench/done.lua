-- Appended to each script for wrk: prints the result as one line of JSON.

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'easypay-bench {"requests":%d,"duration_us":%d,"connect":%d,"read":%d,"write":%d,' ..
    '"status":%d,"timeout":%d,"p50":%d,"p75":%d,"p90":%d,"p95":%d,"p99":%d,"p99.9":%d,"max":%d}\n',
    summary.requests, summary.duration, errors.connect, errors.read, errors.write,
    errors.status, errors.timeout, latency:percentile(50), latency:percentile(75),
    latency:percentile(90), latency:percentile(95), latency:percentile(99),
    latency:percentile(99.9), latency.max))
end

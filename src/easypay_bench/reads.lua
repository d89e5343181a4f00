-- wrk's side of a run of reads: the paths of a file in turn.
-- Its input comes through the environment, because it holds an API key. Header lines that all
-- requests have beside it are in EASYPAY_BENCH_HEADERS, one a line.

local headers = { Authorization = "Bearer " .. os.getenv("EASYPAY_BENCH_KEY") }
for name, value in (os.getenv("EASYPAY_BENCH_HEADERS") or ""):gmatch("([^:\n]+): ([^\n]+)") do
  headers[name] = value
end
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

-- wrk's side of a run of reads: the paths of a file in turn.
-- Its input comes through the environment, because it holds an API key.

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

-- wrk's side of a run: unique requests from a template.
-- The template comes through the environment, because it holds an API key and a card number.

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

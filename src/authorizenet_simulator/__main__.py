"""The command: `authorizenet-simulator --port 9000 --state-file simulator.jsonl`."""

import argparse
import gc
import secrets
import sys
from pathlib import Path

import uvloop

from authorizenet_simulator.server import Server
from authorizenet_simulator.simulator import Simulator


def main() -> None:
    """Serve until SIGTERM or SIGINT; status 0 then, 1 when it cannot start."""
    parser = argparse.ArgumentParser(
        prog="authorizenet-simulator",
        description="A local stand-in for Authorize.Net: its wire, with faults on order.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name by which /simulator may be asked for, besides addresses and localhost",
    )
    parser.add_argument("--port", type=int, default=9000, help="0 picks a free one")
    parser.add_argument("--seed", type=int, help="makes ids and authorization codes repeatable")
    parser.add_argument("--state-file", type=Path, help="keeps the state over restarts")
    parser.add_argument(
        "--log-level", default="warning", choices=["critical", "error", "warning", "info", "debug"]
    )
    given = parser.parse_args()
    seed = secrets.randbits(63) if given.seed is None else given.seed
    try:
        simulator = Simulator(seed, given.state_file)
        server = Server(simulator, given.host, given.port, given.log_level, given.allow_host)
    except (OSError, ValueError) as error:
        sys.exit(f"authorizenet-simulator: {error}")
    gc.freeze()  # what was loaded stays; transactions are no containers to the collector
    gc.set_threshold(50_000, 20, 100)
    uvloop.run(server.serve_until_signal())
    simulator.ledger.journal.close()


if __name__ == "__main__":
    main()

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
    """Serve until SIGTERM or SIGINT, then exit with 0; exit with 1 if the start fails."""
    parser = argparse.ArgumentParser(
        prog="authorizenet-simulator",
        description="A local simulator of Authorize.Net's API that can inject faults.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name allowed in requests for /simulator, besides IP addresses and localhost",
    )
    parser.add_argument("--port", type=int, default=9000, help="listening port; 0: any free one")
    parser.add_argument("--seed", type=int, help="makes ids and authorization codes repeatable")
    parser.add_argument("--state-file", type=Path, help="file that keeps the state across restarts")
    parser.add_argument(
        "--log-level", default="warning", choices=["critical", "error", "warning", "info", "debug"]
    )
    args = parser.parse_args()
    seed = secrets.randbits(63) if args.seed is None else args.seed
    try:
        simulator = Simulator(seed, args.state_file)
        server = Server(simulator, args.host, args.port, args.log_level, args.allow_host)
    except (OSError, ValueError) as error:
        sys.exit(f"authorizenet-simulator: {error}")
    gc.freeze()  # loaded modules are never freed; the collector does not track transactions
    gc.set_threshold(50_000, 20, 100)
    uvloop.run(server.serve_until_signal())
    simulator.ledger.journal.close()


if __name__ == "__main__":
    main()

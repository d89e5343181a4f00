"""Run a whole stack with a merchant until standard input ends, and print where it is.

A program of its own, started by its path: the path it imports from says whose stack it is, that of
this version or of another commit. So it imports only what every version has.
"""

import json
import signal
import sys
import tempfile
from pathlib import Path

from easypay_bench.stack import own, shop


def main() -> None:
    """Start it, print one line of JSON, wait, stop it."""
    # As with Ctrl-C, every started program is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (
        tempfile.TemporaryDirectory(prefix="easypay-bench-") as folder,
        own(Path(folder)) as stack,
        shop(stack) as merchant,
    ):
        standing = {
            "host": stack.host,
            "port": stack.port,
            "api_key": merchant.api_key,
            "database_url": stack.database_url,
            "gateway_pids": list(stack.gateway_pids),
            "postmaster_pid": stack.postmaster_pid,
        }
        sys.stdout.write(json.dumps(standing) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()

"""HTTP clients for the servers on this machine, which speak without TLS.

By default, each new client of httpx reads the certificates of all authorities. That takes 30 ms of
CPU, longer than most tests, and the suite makes thousands of clients.

For each request, httpcore tries half a dozen times to import sniffio, which would say whether trio
runs. It is not installed, and Python looks in every folder again each time: half of what a request
takes a client.
"""

import ssl
import sys
from typing import Any

import httpx

sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]  # not there, and known to be so

TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""No authority is read, so a request over TLS would fail."""


def http_client(**options: Any) -> httpx.AsyncClient:
    """Return a client with the options of httpx.AsyncClient."""
    return httpx.AsyncClient(verify=TRUSTS_NOBODY, trust_env=False, **options)

"""HTTP clients for the servers on this machine, which speak without TLS.

By default, each new client of httpx reads the certificates of all authorities. That takes 30 ms of
CPU, longer than most tests, and the suite makes thousands of clients.
"""

import ssl
from typing import Any

import httpx

TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""No authority is read, so a request over TLS would fail."""


def http_client(**options: Any) -> httpx.AsyncClient:
    """Return a client with the options of httpx.AsyncClient."""
    return httpx.AsyncClient(verify=TRUSTS_NOBODY, trust_env=False, **options)

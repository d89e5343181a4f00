"""The page at /simulator: one file whose script reads all data from the control API."""

from base64 import b64encode
from hashlib import sha256
from importlib import resources
from typing import Final

PAGE: Final = (resources.files("authorizenet_simulator") / "data" / "page.html").read_bytes()


def _inline(opening: bytes, closing: bytes) -> str:
    """Return the policy's source expression that allows only the page's own script or style."""
    text = PAGE.split(opening, 1)[1].split(closing, 1)[0]
    return f"'sha256-{b64encode(sha256(text).digest()).decode()}'"


_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_inline(b'<script>', b'</script>')}",
        f"style-src {_inline(b'<style>', b'</style>')}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
PAGE_HEADERS: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

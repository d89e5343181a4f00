"""Health, metrics and documentation."""

import ipaddress
from collections.abc import Awaitable, Callable
from functools import cached_property

from easypay.api.auth import require_admin
from easypay.api.http import Request, Response
from easypay.errors import NotFound
from easypay.observability.metrics import CONTENT_TYPE

TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"


class SystemApi:
    """`is_ready` says why not, or None where the process should get traffic. `metrics` gives
    their text; `metrics_open` shows it to everybody."""

    def __init__(
        self,
        *,
        is_ready: Callable[[], Awaitable[str | None]],
        metrics: Callable[[], bytes],
        metrics_open: bool,
        admin_digest: bytes | None,
    ) -> None:
        self._is_ready = is_ready
        self._metrics = metrics
        self._metrics_open = metrics_open
        self._admin_digest = admin_digest

    async def livez(self, request: Request) -> Response:
        return Response(200, b"alive\n", TEXT)

    async def readyz(self, request: Request) -> Response:
        why_not = await self._is_ready()
        if why_not is None:
            return Response(200, b"ready\n", TEXT)
        return Response(503, f"not ready: {why_not}\n".encode(), TEXT)

    async def metrics(self, request: Request) -> Response:
        if not self._metrics_open and not _is_local(request):
            require_admin(request, self._admin_digest)
        return Response(200, self._metrics(), CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return Response(200, self._openapi, cache_control=b"public, max-age=300")

    async def docs(self, request: Request) -> Response:
        return Response(200, self._docs, HTML, cache_control=b"public, max-age=300")

    async def problem(self, request: Request) -> Response:
        from easypay.api.docs import problem_page

        page = problem_page(request.params["code"])
        if page is None:
            raise NotFound("there is no such problem; see /docs")
        return Response(200, page, HTML, cache_control=b"public, max-age=300")

    @cached_property
    def _openapi(self) -> bytes:
        from easypay.api.openapi import openapi_json

        return openapi_json()

    @cached_property
    def _docs(self) -> bytes:
        from easypay.api.docs import docs_page

        return docs_page()


def _is_local(request: Request) -> bool:
    """From this machine, and not by way of a proxy on it."""
    if b"x-forwarded-for" in request.headers or b"forwarded" in request.headers:
        return False
    try:
        return ipaddress.ip_address(request.peer).is_loopback
    except ValueError:
        return False

"""Health, metrics and documentation."""

from collections.abc import Awaitable, Callable
from functools import cached_property

from easypay.api.auth import require_admin
from easypay.api.conditional import BRIEFLY, FOR_EVER
from easypay.api.doc_files import DOC_FILES
from easypay.api.http import Request, Response
from easypay.errors import NotFound

TEXT = b"text/plain; charset=utf-8"
HTML = b"text/html; charset=utf-8"


class SystemApi:
    """`is_ready` returns why the process is not ready, or None. `metrics` returns the metrics and
    their content type, for an Accept header."""

    def __init__(
        self,
        *,
        is_ready: Callable[[], Awaitable[str | None]],
        metrics: Callable[[bytes], tuple[bytes, bytes]],
        admin_digest: bytes | None,
    ) -> None:
        self._is_ready = is_ready
        self._metrics = metrics
        self._admin_digest = admin_digest

    async def livez(self, request: Request) -> Response:
        return Response(200, b"alive\n", TEXT)

    async def readyz(self, request: Request) -> Response:
        why_not = await self._is_ready()
        if why_not is None:
            return Response(200, b"ready\n", TEXT)
        return Response(503, f"not ready: {why_not}\n".encode(), TEXT)

    async def metrics(self, request: Request) -> Response:
        # A proxy may stand in front, so a client's address proves nothing: ask for the key.
        require_admin(request, self._admin_digest)
        return Response(200, *self._metrics(request.headers.get(b"accept", b"")))

    async def openapi(self, request: Request) -> Response:
        return Response(200, self._openapi, cache_control=BRIEFLY)

    async def docs(self, request: Request) -> Response:
        from easypay.api.docs.pages import topic_page

        return _page(topic_page(""))

    async def topic(self, request: Request) -> Response:
        from easypay.api.docs.pages import topic_page

        return _page(topic_page(request.params["page"]))

    async def asset(self, request: Request) -> Response:
        file = DOC_FILES.get(request.params["file"])
        if file is None:
            raise NotFound("there is no such file; another version of the gateway may have it")
        return Response(200, file.content, file.content_type, cache_control=FOR_EVER)

    async def problem(self, request: Request) -> Response:
        from easypay.api.docs.pages import problem_page

        return _page(problem_page(request.params["code"]))

    @cached_property
    def _openapi(self) -> bytes:
        from easypay.api.openapi import openapi_json

        return openapi_json()


def _page(html: bytes | None) -> Response:
    """Return a documentation page. The pages are imported when used: few processes serve them."""
    from easypay.api.docs.markup import POLICY

    if html is None:
        raise NotFound("there is no such page; see /docs")
    headers = [(b"content-security-policy", POLICY)]
    return Response(200, html, HTML, headers, cache_control=BRIEFLY)

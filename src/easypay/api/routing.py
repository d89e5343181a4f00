"""Map requests to their endpoints: a router built from the table of routes."""

from collections.abc import Callable
from typing import Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Scope

from easypay.api.http import Endpoint, Handler, Observer, Request, Response, problem_response
from easypay.api.routes import ROUTES
from easypay.api.streaming import StreamingEndpoint
from easypay.card_numbers import quoted
from easypay.errors import MethodNotAllowed, NotFound


def build_router(
    apis: dict[str, Any], is_draining: Callable[[], bool], observer: Observer
) -> Callable[[Scope], ASGIApp]:
    """Return a function from an ASGI scope to its endpoint, built from ROUTES.

    `apis`: the objects whose methods the table names. A path without parameters is looked up in a
    dict; the other paths are matched one after another.
    """
    how: dict[str, Any] = {"is_draining": is_draining, "observer": observer}

    async def no_route(request: Request) -> Response:
        raise NotFound(f"there is no {quoted(request.path)}; see /docs for the paths")

    async def to_docs(request: Request) -> Response:
        return Response(307, headers=[(b"location", b"/docs")])

    root = Endpoint(to_docs, route="/", takes_body=False, **how)
    routes, plain = [Route("/", root, methods=["GET"])], {}
    methods = {"/": ["GET"]}
    for route in ROUTES:
        methods.setdefault(route.path, []).append(route.method)
        handler: Handler = getattr(apis[route.api], route.handler)
        takes_body = route.method in ("POST", "PUT", "PATCH")
        kind = StreamingEndpoint if route.streams else Endpoint
        endpoint: ASGIApp = kind(handler, route=route.path, takes_body=takes_body, **how)
        routes.append(Route(route.path, endpoint, methods=[route.method], name=route.operation_id))
        if "{" not in route.path:
            plain[route.method, route.path] = endpoint
    for path, taken in methods.items():  # last: all other methods of the path
        refused = Endpoint(_refusing(taken), route="none", takes_body=False, **how)
        routes.append(Route(path, refused))
    unmatched = Endpoint(no_route, route="none", takes_body=False, **how)
    router = Router(routes=routes, redirect_slashes=False, default=unmatched)
    return lambda scope: plain.get((scope["method"], scope["path"]), router)


def _refusing(methods: list[str]) -> Handler:
    """Return a handler that refuses other methods. A path with GET has HEAD too."""
    allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))

    async def refuse(request: Request) -> Response:
        refused = MethodNotAllowed(f"{quoted(request.path)} takes {allowed}, not {request.method}.")
        response = problem_response(refused, request.id)
        response.headers = [(b"allow", allowed.encode())]
        return response

    return refuse

"""Map requests to their endpoints: a tree of paths, built from the table of routes.

Starlette's router tries the routes one after another, with a regular expression for each: 25 µs for
a payment by its id. Here a path is looked up part by part.
"""

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final

from starlette.types import ASGIApp, Scope

from easypay.api.conditional import ReadEndpoint
from easypay.api.http import (
    Endpoint,
    Handler,
    Keep,
    Observer,
    Request,
    Response,
    problem_response,
)
from easypay.api.routes import ROUTES
from easypay.api.streaming import StreamingEndpoint
from easypay.card_numbers import quoted
from easypay.errors import MethodNotAllowed, NotFound

_REST: Final = ":path"
"""Marks a parameter that takes all that is left of a path, with its slashes."""


class Place:
    """Where a path leads to, and the places below it."""

    __slots__ = ("below", "endpoints", "other_methods", "parameter", "rest")

    def __init__(self) -> None:
        self.endpoints: dict[str, ASGIApp] = {}
        self.other_methods: ASGIApp | None = None
        """Answers all methods that are not in `endpoints`."""
        self.below: dict[str, Place] = {}
        self.parameter: tuple[str, Place] | None = None
        self.rest: tuple[str, Place] | None = None

    def at(self, path: str) -> "Place":
        """Return the place of a route's path, such as `/payments/{id}`, and make it if needed."""
        place = self
        for part in path.split("/")[1:]:
            name = part[1:-1] if part.startswith("{") else None
            if name is None:
                place = place.below.setdefault(part, Place())
                continue
            which = "rest" if name.endswith(_REST) else "parameter"
            there = getattr(place, which) or (name.removesuffix(_REST), Place())
            assert there[0] == name.removesuffix(_REST), "one place has one name for its parameter"
            setattr(place, which, there)
            place = there[1]
        return place

    def find(self, parts: list[str], parameters: dict[str, str], at: int = 1) -> "Place | None":
        """Return the place of a path's parts from `at` on, and fill in its parameters.

        A name goes before a parameter, and a parameter is never empty.
        """
        if at == len(parts):
            return self if self.endpoints else None
        part = parts[at]
        below = self.below.get(part)
        if below is not None and (found := below.find(parts, parameters, at + 1)) is not None:
            return found
        if self.parameter is not None and part:
            name, below = self.parameter
            if (found := below.find(parts, parameters, at + 1)) is not None:
                parameters[name] = part
                return found
        if self.rest is not None:
            name, below = self.rest
            parameters[name] = "/".join(parts[at:])
            return below
        return None


def build_router(
    apis: dict[str, Any],
    is_draining: Callable[[], bool],
    observer: Observer,
    before: Callable[[str, Handler], Handler] = lambda _, handler: handler,
    keep: Keep | None = None,
) -> Callable[[Scope], ASGIApp]:
    """Return a function from an ASGI scope to its endpoint, built from ROUTES. It puts the path's
    parameters into the scope.

    `apis`: the objects whose methods the table names. `before` may put something before a handler,
    which it is told as `reading.list`. `keep` is told of answers that may be given again.
    """
    how: dict[str, Any] = {"is_draining": is_draining, "observer": observer, "keep": keep}

    async def no_route(request: Request) -> Response:
        raise NotFound(f"there is no {quoted(request.path)}; see /docs for the paths")

    async def to_docs(request: Request) -> Response:
        return Response(307, headers=[(b"location", b"/docs")])

    root = Endpoint(to_docs, route="/", takes_body=False, **how)
    endpoints: list[tuple[str, str, ASGIApp]] = [("GET", "/", root)]
    for route in ROUTES:
        handler: Handler = getattr(apis[route.api], route.handler)
        handler = before(f"{route.api}.{route.handler}", handler)
        takes_body = route.method in ("POST", "PUT", "PATCH") and not route.uploads
        reads = ReadEndpoint if route.method == "GET" else Endpoint
        kind = StreamingEndpoint if route.streams else reads
        endpoint = kind(handler, route=route.path, takes_body=takes_body, **how)
        endpoints.append((route.method, route.path, named(endpoint, route.call)))
    unmatched = Endpoint(no_route, route="none", takes_body=False, **how)
    return lookup(
        endpoints,
        unmatched,
        lambda methods: Endpoint(_refusing(methods), route="none", takes_body=False, **how),
    )


def named(endpoint: ASGIApp, call: str) -> ASGIApp:
    """Return an endpoint's call as a function that has the name of its route, so that stacks show
    it: in profiles, tracebacks and warnings. It costs a request nothing."""
    run = type(endpoint).__call__
    assert isinstance(run, FunctionType)
    code = run.__code__.replace(co_name=call, co_qualname=call)
    copy = FunctionType(code, run.__globals__, call, run.__defaults__, run.__closure__)
    return MethodType(copy, endpoint)


def lookup(
    endpoints: list[tuple[str, str, ASGIApp]],
    unmatched: ASGIApp,
    refusing: Callable[[list[str]], ASGIApp],
) -> Callable[[Scope], ASGIApp]:
    """Return the function from a scope to its endpoint. A path with GET has HEAD, too.

    `endpoints`: method, path and endpoint of each. `refusing` makes the one for a path's other
    methods.
    """
    top, places = Place(), {}
    plain: dict[tuple[str, str], ASGIApp] = {}
    by_last: dict[tuple[str, str], tuple[ASGIApp, str, Place]] = {}
    """By the path above, if its only parameter is its last part: so most reads are found at once.
    With the parameter's name, and the place above."""
    for method, path, endpoint in endpoints:
        places[path] = top.at(path)
        for served in (method, "HEAD") if method == "GET" else (method,):
            places[path].endpoints[served] = endpoint
            above, _, last = path.rpartition("/")
            if "{" not in path:
                plain[served, path] = endpoint
            elif "{" not in above and not last.endswith(f"{_REST}}}"):
                by_last[served, above] = endpoint, last[1:-1], top.at(above)
    for place in places.values():
        place.other_methods = refusing(sorted(place.endpoints))

    def endpoint_of(scope: Scope) -> ASGIApp:
        method, path = scope["method"], scope["path"]
        endpoint = plain.get((method, path))
        if endpoint is not None:
            return endpoint
        above, _, last = path.rpartition("/")
        found = by_last.get((method, above))
        if found is not None and last and last not in found[2].below:
            scope["path_params"] = {found[1]: last}
            return found[0]
        parameters: dict[str, str] = {}
        place = top.find(path.split("/"), parameters)
        if place is None:
            return unmatched
        scope["path_params"] = parameters
        endpoint = place.endpoints.get(method, place.other_methods)
        assert endpoint is not None
        return endpoint

    return endpoint_of


def _refusing(methods: list[str]) -> Handler:
    """Return a handler that refuses all methods but these."""
    allowed = ", ".join(methods)

    async def refuse(request: Request) -> Response:
        refused = MethodNotAllowed(f"{quoted(request.path)} takes {allowed}, not {request.method}.")
        response = problem_response(refused, request.id)
        response.headers = [(b"allow", allowed.encode())]
        return response

    return refuse

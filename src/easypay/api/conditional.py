"""What leaves for a GET: entity tags, 304 for what the client has already, and compression.

`ReadEndpoint` finishes the answers of handlers. An answer that may not be stored (`no-store`:
errors, secrets, administration) passes as it is: it gets no tag, and it is never compressed, so
that its size says nothing about its content. docs/decisions/0030 has the reasons.

A tag is strong: it belongs to the bytes. So the compressed form has one of its own.

    "v2.3f9a1c"                     version 2 of a payment, in the form that this EasyPay gives it
    "v2.3f9a1c-gzip"                the same, compressed
    "v2"                            what clients may send in If-Match: any form of version 2
    "v2.kUfcY1Mj2nVvJq0y3b5L8w"     version 2 with its children, by a digest of the body
    "kUfcY1Mj2nVvJq0y3b5L8w"        anything else, by a digest of the body
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from easypay.api.compression import CODINGS, IDENTITY, accepted, compressed, compressed_once
from easypay.api.http import Endpoint, Headers, Request, Response
from easypay.api.read_from import READ_AS_OF
from easypay.payments.views import PAYMENT_FORM

NO_STORE: Final = b"no-store"
PRIVATE: Final = b"private, no-cache"
"""A client may keep its own copy, and asks before it uses it."""
BRIEFLY: Final = b"public, max-age=300"
"""For pages that are the same for everyone and can change with the next version."""
FOR_EVER: Final = b"public, max-age=31536000, immutable"
"""For files whose name changes with their content."""

DIGEST: Final = r"[A-Za-z0-9_-]{22}"
CODING: Final = rf"-({'|'.join(coding.decode() for coding in CODINGS)})"
FORM: Final = rf"(?:[0-9a-f]{{6}}|{DIGEST})"
VERSION_TAG: Final = rf'"v[1-9][0-9]{{0,8}}(\.{FORM})?({CODING})?"'
ANY_TAG: Final = rf'"(v[1-9][0-9]{{0,8}}(\.{FORM})?|{DIGEST})({CODING})?"'

_DIGEST_BYTES: Final = 16
_PAYMENT_FORM: Final = PAYMENT_FORM.encode()
_TAGS: Final = re.compile(rb'"[\x21\x23-\x7e\x80-\xff]*"')
_VERSION: Final = re.compile(rf'"v(0|[1-9][0-9]{{0,8}})(?:\.{FORM})?(?:{CODING})?"'.encode())
_TAG: Final = b"etag"
_VARY_PUBLIC: Final = (b"vary", b"Accept-Encoding")
_VARY: Final = (b"vary", b"Authorization, Accept-Encoding")
"""A client that has several keys must not take one's list for the other's."""
_KEPT_BY_304: Final = frozenset({READ_AS_OF, b"age", b"vary"})


def version_tag(version: int, body: bytes | None = None) -> bytes:
    """Return the tag of a payment. `body`: if it shows more than the version says."""
    if body is None:
        return b'"v%d.%b"' % (version, _PAYMENT_FORM)
    return b'"v%d.%b"' % (version, _digest(body))


def version_of(tag: bytes) -> int | None:
    """Return the version in a payment's tag, whatever form of the payment the tag is of."""
    found = _VERSION.fullmatch(tag)
    return None if found is None else int(found[1])


def held_tag(request: Request, tag: bytes) -> bytes | None:
    """Return the tag under which the client has a representation already; None if it has none.

    `tag` is of the body as it is. The client's counts in any coding that the client still takes.
    """
    header = request.headers.get(b"if-none-match")
    if header is None:
        return None
    accept = accepted(request.headers.get(b"accept-encoding"))
    if header == tag and IDENTITY in accept.takes:  # as a client sends it that got the body as is
        return tag
    if header.strip() == b"*":
        return _coded(tag, IDENTITY if IDENTITY in accept.takes else accept.best)
    good = {_coded(tag, coding) for coding in accept.takes}
    # Weak comparison (RFC 9110, 8.8.3.2): the W/ before a tag says nothing here.
    return next((each for each in _TAGS.findall(header) if each in good), None)


def not_modified(tag: bytes) -> Response:
    """Return the answer for a client that has the representation with this tag."""
    return Response(304, headers=[(b"etag", tag)], cache_control=PRIVATE)


class ReadEndpoint(Endpoint):
    """The ASGI application of a route that is read. A tag that the handler has set is of the body
    as it is."""

    @staticmethod
    def finish(request: Request, response: Response) -> Response:
        """Return the answer with tag and Vary: without its body if the client has it, or
        compressed. One that may not be stored is returned as it is.

        The handler's answer stays as it is: it may be shared with other requests.
        """
        if response.cache_control == NO_STORE:
            return response
        is_public = response.cache_control.startswith(b"public")
        vary = _VARY_PUBLIC if is_public else _VARY
        if response.status != 200:
            return replace(response, headers=[*response.headers, vary])
        tag, others = b"", [vary]
        for each in response.headers:
            if each[0] == _TAG:
                tag = each[1]
            else:
                others.append(each)
        tag = tag or _made(response, _TAG, _kept_tag if is_public else _tag_of)
        held = held_tag(request, tag)
        if held is None:
            return _whole(request, response, tag, others, is_public)
        lines = [each for each in others if each[0] in _KEPT_BY_304]
        return replace(response, status=304, body=b"", headers=[(_TAG, held), *lines])


def _whole(
    request: Request, response: Response, tag: bytes, others: Headers, is_public: bool
) -> Response:
    """Return the answer for a client that does not have it."""
    coding = accepted(request.headers.get(b"accept-encoding")).coding_for(len(response.body))
    lines = [*others, (_TAG, _coded(tag, coding))]
    if coding == IDENTITY:
        return replace(response, headers=lines)
    compress = partial(compressed_once if is_public else compressed, coding=coding)
    return replace(
        response,
        body=_made(response, coding, compress),
        headers=[*lines, (b"content-encoding", coding)],
        coding=coding.decode(),
    )


def _coded(tag: bytes, coding: bytes) -> bytes:
    """Return the tag of the same content in a coding."""
    return tag if coding == IDENTITY else b'%b-%b"' % (tag[:-1], coding)


def _made(response: Response, form: bytes, make: Callable[[bytes], bytes]) -> bytes:
    """Return a form of the body. Of answers that share a body the first one makes it.

    All forms that are kept take no more than the body: the near cache counts on that.
    """
    forms = response.forms
    if forms is None:
        return make(response.body)
    made = forms.get(form)
    if made is None:
        made = make(response.body)
        if sum(map(len, forms.values())) + len(made) <= len(response.body):
            forms[form] = made
    return made


def _tag_of(body: bytes) -> bytes:
    return b'"%b"' % _digest(body)


_kept_tag = lru_cache(maxsize=64)(_tag_of)


def _digest(body: bytes) -> bytes:
    """Return the first 128 bits of a SHA-256: enough that nobody finds two bodies with one."""
    return urlsafe_b64encode(sha256(body).digest()[:_DIGEST_BYTES]).rstrip(b"=")

"""Compressing answers: which coding a client takes, and the codecs.

Who may be compressed is decided elsewhere: whole answers in `easypay.api.conditional`, exports in
`easypay.api.streaming`. docs/decisions/0030 has the figures behind the levels and their order.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import brotli
import zstandard
from isal import isal_zlib

ZSTD: Final = b"zstd"
GZIP: Final = b"gzip"
BROTLI: Final = b"br"
IDENTITY: Final = b"identity"
CODINGS: Final = (ZSTD, GZIP, BROTLI)
"""The codings, the preferred one first: it takes the least time for what it saves."""
LEAST: Final = 1024
"""Bytes. A smaller body fits into one packet as it is."""

_MOST_NAMED: Final = 32
"""How many entries of a header are read. Browsers send four."""
_LONGEST_KEPT: Final = 100
"""A longer header is read again each time, so that clients cannot fill the memory with them."""
_ALIASES: Final[Mapping[bytes, bytes]] = {b"x-gzip": GZIP}
_WEIGHT: Final = re.compile(rb"[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")
_GZIP_FORMAT: Final = 31
"""zlib's window bits for the largest window, with the head and the end of gzip around it."""
_BROTLI_WINDOW: Final = 18
"""Bits: a running export keeps a few times 256 KiB for brotli, not its usual 4 MiB."""
_MOST_KEPT: Final = 256
"""More than there are pages of the documentation in all codings."""


class Accepted(NamedTuple):
    """What a client takes."""

    best: bytes
    """The coding for it, or IDENTITY."""
    takes: frozenset[bytes]
    """All that it takes of CODINGS and IDENTITY."""

    def coding_for(self, size: int) -> bytes:
        """Return the coding for a body of so many bytes."""
        return self.best if size >= LEAST or IDENTITY not in self.takes else IDENTITY


_ANY: Final = Accepted(IDENTITY, frozenset((*CODINGS, IDENTITY)))


def accepted(header: bytes | None) -> Accepted:
    """Return what an Accept-Encoding header takes (RFC 9110, 12.5.3).

    A client that sends none takes everything, but it gets bodies as they are. An entry that cannot
    be read is passed over. Nothing is refused: a client that takes nothing gets bodies as they are.
    """
    if header is None:
        return _ANY
    return _known(header) if len(header) <= _LONGEST_KEPT else _read(header)


def _read(header: bytes) -> Accepted:
    weights: dict[bytes, float] = {}
    for entry in header.split(b",", _MOST_NAMED)[:_MOST_NAMED]:
        name, _, parameter = entry.partition(b";")
        weight = _weight(parameter.strip())
        if weight is not None:
            name = name.strip().lower()
            weights.setdefault(_ALIASES.get(name, name), weight)
    others = weights.get(b"*")
    takes = {coding for coding in CODINGS if weights.get(coding, others or 0.0) > 0}
    as_it_is = weights.get(IDENTITY, others)
    if as_it_is != 0:
        takes.add(IDENTITY)
    # Of what `*` allows without a name only gzip is used: that every client can read.
    wanted = {GZIP: others or 0.0} | weights
    best = max(CODINGS, key=lambda coding: wanted.get(coding, 0.0))
    liked = wanted.get(best, 0.0)
    if liked == 0 or (as_it_is is not None and as_it_is > liked):
        best = IDENTITY
    return Accepted(best, frozenset(takes))


def _weight(parameter: bytes) -> float | None:
    """Return the weight of an entry, or None if it is not one."""
    if not parameter:
        return 1.0
    found = _WEIGHT.fullmatch(parameter)
    return None if found is None else float(found[1])


_known = lru_cache(maxsize=256)(_read)


# Whole bodies --------------------------------------------------------------------------------

_zstd = zstandard.ZstdCompressor(level=1)  # kept: a new one costs a tenth more
_LEVELS: Final[Mapping[bytes, Callable[[bytes], bytes]]] = {
    ZSTD: _zstd.compress,
    GZIP: lambda body: isal_zlib.compress(body, 1, _GZIP_FORMAT),
    # Quality 1 needs so much memory that the system gives and takes it again at each call.
    BROTLI: lambda body: brotli.compress(body, quality=0, lgwin=_BROTLI_WINDOW),
}
"""For what is sent once: a page of 100 payments takes at most 150 µs."""
_SMALLER: Final[Mapping[bytes, Callable[[bytes], bytes]]] = {
    ZSTD: zstandard.ZstdCompressor(level=6).compress,
    GZIP: lambda body: isal_zlib.compress(body, 3, _GZIP_FORMAT),
    BROTLI: lambda body: brotli.compress(body, quality=5),
}
"""For what is the same for everyone and compressed once. Still some milliseconds at most: payments
wait meanwhile."""


def compressed(body: bytes, coding: bytes) -> bytes:
    """Return a body in a coding."""
    return _LEVELS[coding](body)


@lru_cache(maxsize=_MOST_KEPT)
def compressed_once(body: bytes, coding: bytes) -> bytes:
    """Return the body of a page that everybody gets, in a coding. It is kept."""
    return _SMALLER[coding](body)


# Bodies in pieces ----------------------------------------------------------------------------


class Stream:
    """A body that is compressed piece by piece."""

    def __init__(self, coding: bytes) -> None:
        self._codec: Any
        self._flush: tuple[int, ...] = ()
        if coding == ZSTD:
            self._codec = zstandard.ZstdCompressor(level=1).compressobj()
            self._flush = (zstandard.COMPRESSOBJ_FLUSH_BLOCK,)
        elif coding == GZIP:
            self._codec = isal_zlib.compressobj(1, wbits=_GZIP_FORMAT)
            self._flush = (isal_zlib.Z_SYNC_FLUSH,)
        elif coding == BROTLI:
            self._codec = brotli.Compressor(quality=1, lgwin=_BROTLI_WINDOW)
        else:
            raise ValueError(f"there is no coding {coding!r}")
        self._take = self._codec.process if coding == BROTLI else self._codec.compress
        self._finish = self._codec.finish if coding == BROTLI else self._codec.flush

    def piece(self, data: bytes) -> bytes:
        """Return what the client needs to have all of `data` at once."""
        return bytes(self._take(data)) + bytes(self._codec.flush(*self._flush))

    def end(self, data: bytes) -> bytes:
        """Return the last piece. Without it the body is visibly cut."""
        return bytes(self._take(data)) + bytes(self._finish())

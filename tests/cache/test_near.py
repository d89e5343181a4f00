"""The near cache is bounded in bytes, and an older value never replaces a newer one."""

import os
import tracemalloc
from base64 import b64encode

import psutil

from easypay.api.compression import CODINGS
from easypay.api.conditional import PRIVATE, ReadEndpoint
from easypay.api.http import Request, Response
from easypay.cache.caches import size_of
from easypay.cache.names import Answer
from easypay.cache.near import Entry, NearCache
from easypay.clock import monotonic

MIB = 1024 * 1024


def entry(*, read_at: float = 0.0, version: int = 1, size: int = 700) -> Entry:
    answer = Answer(os.urandom(size), [(b"etag", b'"v1"')], b"application/json", b"private")
    return Entry(answer, version, read_at, read_at + 60, size)


def test_a_scan_of_a_million_ids_stays_within_the_bound() -> None:
    near = NearCache(4 * MIB)
    kept = entry()
    before = psutil.Process().memory_info().rss
    for number in range(1_000_000):
        near.put(f"payment:{number:032x}:test:{number:032x}", kept)
    assert near.bytes <= 4 * MIB
    assert 1_000 < len(near) < 4 * MIB / 700
    assert psutil.Process().memory_info().rss - before < 16 * MIB


def test_what_it_counts_is_at_least_what_it_takes() -> None:
    near = NearCache(16 * MIB)
    before = psutil.Process().memory_info().rss
    for number in range(9_000):
        near.put(f"payment:{number:032x}:test:{number:032x}", entry(size=900))
    took = psutil.Process().memory_info().rss - before
    assert took < near.bytes * 1.2


def test_what_is_made_of_an_answer_is_counted_too() -> None:
    """Clients ask for every coding of what hardly becomes smaller, and the answers came from the
    shared cache as well as from the database."""
    near, now = NearCache(4 * MIB), monotonic()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(4_000):
        body = b64encode(os.urandom(900))
        answer = Answer(body, [(b"etag", b'"v%d"' % number)], b"application/json", b"private")
        kept = Entry(answer, 1, now, now + 60, size_of(answer), told=True)
        near.put(f"payment:{number:032x}:test:{number:032x}", kept)
        for coding in CODINGS:
            request = Request("GET", "/", {}, {b"accept-encoding": coding}, b"", b"", "r")
            answered = Response(200, body, cache_control=PRIVATE, forms=kept.forms)
            sent = ReadEndpoint.finish(request, answered)
            assert sent.coding == coding.decode()
    took = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert took <= near.bytes * 1.02 <= near.most_bytes * 1.02


def test_what_was_used_longest_ago_leaves_first() -> None:
    near = NearCache(7_000)
    for name in ("a", "b", "c", "d"):
        near.put(name, entry())
    near.get("a", 1.0)
    for name in ("e", "f"):
        near.put(name, entry())
    assert "a" in near
    assert "b" not in near


def test_an_older_value_never_replaces_a_newer_one() -> None:
    near = NearCache(MIB)
    newer = entry(read_at=2.0, version=3)
    near.put("a", newer)
    near.put("a", entry(read_at=1.0, version=3))
    near.put("a", entry(read_at=3.0, version=2))
    assert near.get("a", 4.0) is newer


def test_an_entry_ends() -> None:
    near = NearCache(MIB)
    near.put("a", entry())
    assert near.get("a", 59.9) is not None
    assert near.get("a", 60.0) is None
    assert near.bytes == 0
    assert len(near) == 0

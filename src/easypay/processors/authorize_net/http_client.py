"""A lean keep-alive HTTP/1.1 client that knows what a failure proves.

It owns the connections to the processor. Every call returns one of three values:

- `Reply`: a complete reply came, whatever it says;
- `NotSent`: proven never to have left, because not one byte was handed to a transport;
- `Unknown`: bytes were handed over and no complete reply came. It is never sent again.

`NotSent` is made only before the first write. A connection returns to the pool only after one
clean, complete reply to the one request it carried, so a late or duplicate reply can never be
taken for the reply to another request. A connection that has become old, or leads to an address
that the host no longer has, is replaced (`renewal.py`).
"""

import asyncio
import random
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from easypay.clock import monotonic
from easypay.processors import happy_eyeballs
from easypay.processors.authorize_net.connection import Connection, Reply
from easypay.processors.authorize_net.renewal import AGE_S, CHECK_EVERY_S, renew
from easypay.processors.base import Deadline, NotSent, Unknown
from easypay.processors.host_names import HostNames, NoAddress
from easypay.processors.integration import ConnectionFigures

LEAST_TIME_S: Final = 0.2
"""A call with less time left is not started: its reply could not be awaited."""

MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
READ_TICKETS_S: Final = 0.05
"""A TLS connection that replaces another rests so long: while its session tickets are unread, it
looks as if the other side had closed it."""
BEYOND_LIMIT_S: Final = 0.1
"""How often it is looked whether a replaced connection has ended, which had no place any more: no
other one is replaced until then."""
RETRY_PAUSES_S: Final = (0.02, 0.1)
"""Before the second and third attempt to connect; each is multiplied by 0.5 to 1.5, at random."""


class _Pool:
    """The connections to one (scheme, host, port). The most recently used is the last."""

    __slots__ = ("host", "idle", "port", "renewal", "tls")

    def __init__(self, host: str, port: int, tls: bool) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.idle: deque[Connection] = deque()
        self.renewal: asyncio.Task[None] | None = None


class _Refused(NamedTuple):
    """No connection could be made. Nothing was sent, so it may be tried again."""

    reason: str


class HttpClient:
    """POSTs JSON over pooled connections. One instance serves one process and its event loop.

    `connections`: the most open at once, over all hosts; a call beyond it waits for one, at most
    half of its time; while one is replaced, both are open. `names`: where hosts are looked up.
    `age_s`: after it a connection is replaced. `after_write`: called once a request has been
    written, where a test can kill the process. `more_headers`: returns whole lines (the trace) for
    the request about to be sent.
    Times are seconds.
    """

    def __init__(
        self,
        *,
        connections: int = 1024,
        connect_timeout_s: float = 1.0,
        idle_s: float = 15.0,
        age_s: float = AGE_S,
        check_every_s: float = CHECK_EVERY_S,
        names: HostNames | None = None,
        max_reply_bytes: int = MAX_REPLY_BYTES,
        ssl_context: ssl.SSLContext | None = None,
        after_write: Callable[[], None] | None = None,
        more_headers: Callable[[], bytes] = bytes,
    ) -> None:
        self.max_reply_bytes = max_reply_bytes
        self._more_headers = more_headers
        self.after_write = after_write
        self._limit = connections
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._age_s = age_s
        self._check_every_s = check_every_s
        self._names = HostNames() if names is None else names
        self._ssl_context = ssl_context
        self._certificate_ends: float | None = None
        self._pools: dict[tuple[str, str, int], _Pool] = {}
        self._targets: dict[str, tuple[_Pool, bytes]] = {}
        self._connections: set[Connection] = set()
        self._open = 0
        self._opened = self._refused = self._replaced = self._reused = 0
        self._waiting: deque[tuple[_Pool, asyncio.Future[Connection | NotSent | None]]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(
        self,
        url: str,
        body: bytes,
        deadline: Deadline,
        target: tuple[_Pool, bytes] | None = None,
    ) -> Reply | NotSent | Unknown:
        """Send `body` to an http or https URL, at most once, and wait until the deadline.

        Raises ValueError for a URL it cannot use, and nothing for what the network does.
        """
        target = target or self._targets.get(url)
        if target is None:
            target = self._targets[url] = self._target("POST", url)
        pool, head = target
        pauses_s = iter(RETRY_PAUSES_S)
        while deadline.left(monotonic()) >= LEAST_TIME_S:
            connection = self._take_idle(pool)
            if connection is None:
                obtained = await self._obtain(pool, deadline)
                if isinstance(obtained, NotSent):
                    return obtained
                if isinstance(obtained, _Refused):
                    pause_s = next(pauses_s, None)
                    if pause_s is None:
                        return NotSent(reason=obtained.reason)
                    await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
                    continue
                connection = obtained
            request = b"%b%d\r\n%b\r\n%b" % (head, len(body), self._more_headers(), body)
            # No await between this last look at the clock and the write inside `exchange`.
            left_s = deadline.left(monotonic())
            if left_s < LEAST_TIME_S:
                self.connection_free(connection)
                break
            return await connection.exchange(request, left_s)
        return NotSent(reason="no time left to begin a call")

    async def send(
        self, method: str, url: str, authorization: str, body: bytes, deadline: Deadline
    ) -> Reply | NotSent | Unknown:
        """Send a request with another method, and credentials in its head, as `post` does."""
        target = self._target(method, url, f"Authorization: {authorization}\r\n")
        return await self.post(url, body, deadline, target)

    async def close(self) -> None:
        """Close every connection. A call in flight ends unknown, a later one as not sent."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for _, waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(NotSent(reason="the client is closed"))
        self._waiting.clear()
        for connection in tuple(self._connections):
            connection.fail("the client was closed")
        for pool in self._pools.values():
            if pool.renewal is not None:
                pool.renewal.cancel()
        await self._names.close()
        await asyncio.sleep(0)  # the transports close in the next turn of the loop

    def figures(self) -> ConnectionFigures:
        """Return what the metrics show of the connections and the lookups."""
        idle = sum(not each.closed for pool in self._pools.values() for each in pool.idle)
        opened_at = [each.opened_at for each in self._connections if each.opened_at]
        return ConnectionFigures(
            idle=idle,
            used=max(0, self._open - idle),
            oldest_s=monotonic() - min(opened_at) if opened_at else 0.0,
            opened=self._opened,
            failed=self._refused,
            replaced=self._replaced,
            reused=self._reused + sum(max(0, each.uses - 1) for each in self._connections),
            lookups=self._names.lookups,
            stale=self._names.stale,
            certificate_ends=self._certificate_ends,
        )

    def connection_free(self, connection: Connection) -> None:
        """Give a clean connection to the first waiting call, else to the pool."""
        if connection.closed:
            return
        while self._waiting:
            pool, waiter = self._waiting[0]
            if waiter.done():
                self._waiting.popleft()
            elif pool is connection.key:
                self._waiting.popleft()
                waiter.set_result(connection)
                return
            else:
                connection.discard()  # the waiter needs another host: free the slot for it
                return
        if self._closed:
            connection.discard()
            return
        connection.idle_since = monotonic()
        assert isinstance(connection.key, _Pool)
        connection.key.idle.append(connection)
        if self._sweeper is None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._idle_s, self._sweep)

    def connection_gone(self, connection: Connection) -> None:
        """Called once for each connection that closes."""
        self._connections.discard(connection)
        self._reused += max(0, connection.uses - 1)
        self._free_slot()

    def _target(self, method: str, url: str, more: str = "") -> tuple[_Pool, bytes]:
        """Return where a request goes, and its head up to the number of its bytes."""
        parts = urlsplit(url)
        host, tls = parts.hostname, parts.scheme == "https"
        if parts.scheme not in ("http", "https") or not host or not url.isascii() or " " in url:
            raise ValueError(f"{url!r} is not an http or https address")
        port = parts.port or (443 if tls else 80)
        pool = self._pools.setdefault((parts.scheme, host, port), _Pool(host, port, tls))
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        name = f"[{host}]" if ":" in host else host
        authority = name if parts.port is None else f"{name}:{port}"
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: easypay\r\n{more}"
            "Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: "
        ).encode()
        return pool, head

    def _take_idle(self, pool: _Pool) -> Connection | None:
        while pool.idle:
            connection = pool.idle.pop()
            if monotonic() - connection.idle_since < self._idle_s and connection.usable():
                return connection
            connection.discard()
        return None

    async def _obtain(self, pool: _Pool, deadline: Deadline) -> Connection | _Refused | NotSent:
        """Return a new connection, or one that another call just returned."""
        if self._closed:
            return NotSent(reason="the client is closed")
        if self._open >= self._limit:
            self._evict_an_idle_one()
        if self._open < self._limit:
            self._open += 1
        else:
            obtained = await self._wait_for_slot(pool, deadline)
            if isinstance(obtained, Connection) and not obtained.usable():
                obtained.discard()
                return _Refused("the connection was closed while it was handed over")
            if obtained is not None:
                return obtained
        return await self._connect(pool, deadline)

    async def _wait_for_slot(self, pool: _Pool, deadline: Deadline) -> Connection | NotSent | None:
        """Return a connection, None for a free slot, or NotSent after too long a wait."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | NotSent | None] = loop.create_future()
        self._waiting.append((pool, waiter))
        timer = loop.call_later(deadline.left(monotonic()) / 2, _give_up, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                given = waiter.result()
                if given is None:
                    self._free_slot()
                elif isinstance(given, Connection):
                    self.connection_free(given)
            raise
        finally:
            timer.cancel()

    async def _connect(self, pool: _Pool, deadline: Deadline) -> Connection | _Refused | NotSent:
        """Open a connection in a slot that is already ours."""
        connection = Connection(self, pool)
        self._connections.add(connection)
        time_s = min(self._connect_timeout_s, deadline.left(monotonic()) - LEAST_TIME_S)
        failure: _Refused | NotSent
        try:
            async with asyncio.timeout(max(time_s, 0)):
                await self._open_to(pool, connection)
        except TimeoutError:
            failure = NotSent(reason="connecting took too long")
        except (ssl.SSLError, ssl.CertificateError) as error:
            failure = NotSent(reason=f"TLS failed: {getattr(error, 'reason', None)}")
        except NoAddress as error:
            failure = NotSent(reason=f"no address: {error}")
        except OSError as error:
            failure = _Refused(f"could not connect: {type(error).__name__}: {error}")
        except BaseException:
            connection.discard()
            raise
        else:
            # A new TLS connection may have session tickets to read, so only a plain one is checked.
            if not connection.closed and (pool.tls or connection.usable()):
                self._opened += 1
                connection.opened_at = monotonic()
                if pool.renewal is None:
                    self._keep_renewed(pool)
                return connection
            failure = _Refused("the new connection was closed before anything was sent")
        self._refused += 1
        if connection.address:
            self._names.try_last(connection.address)
        connection.discard()
        return failure

    async def _open_to(self, pool: _Pool, connection: Connection) -> None:
        """Connect to the first address that accepts. TLS checks the certificate for the name."""
        if pool.tls and self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        sock, connection.address = await happy_eyeballs.connect(self._names, pool.host, pool.port)
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: connection,
            sock=sock,
            ssl=self._ssl_context if pool.tls else None,
            server_hostname=pool.host if pool.tls else None,
        )
        if (certificate := transport.get_extra_info("peercert")) and "notAfter" in certificate:
            self._certificate_ends = ssl.cert_time_to_seconds(certificate["notAfter"])

    def _keep_renewed(self, pool: _Pool) -> None:
        """Look after the pool's connections for as long as it has any."""

        def ended(_: object) -> None:
            pool.renewal = None

        pool.renewal = asyncio.create_task(
            renew(
                lambda: self._names.addresses(pool.host),
                lambda: [each for each in self._connections if each.key is pool],
                self._replace,
                age_s=self._age_s,
                check_every_s=self._check_every_s,
            )
        )
        pool.renewal.add_done_callback(ended)

    async def _replace(self, old: Connection) -> bool:
        """Open a connection and let the old one carry no further request. Return False, and leave
        the old one as it was, if none can be opened."""
        pool = old.key
        assert isinstance(pool, _Pool)
        self._open += 1  # one beyond the limit, until the old one is closed
        deadline = Deadline(monotonic() + self._connect_timeout_s + LEAST_TIME_S)
        new = await self._connect(pool, deadline)
        if not isinstance(new, Connection):
            return False
        if pool.tls:
            await asyncio.sleep(READ_TICKETS_S)
        self._replaced += 1
        old.retired = True
        if old in pool.idle:
            new.idle_since = old.idle_since  # it is closed as soon as the old one would have been
            pool.idle[pool.idle.index(old)] = new
            old.discard()
        else:
            self.connection_free(new)
            while self._open > self._limit and not old.closed:  # noqa: ASYNC110 - seldom, so no event
                await asyncio.sleep(BEYOND_LIMIT_S)
        return True

    def _free_slot(self) -> None:
        while self._waiting and self._open <= self._limit:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._open -= 1

    def _evict_an_idle_one(self) -> None:
        for pool in self._pools.values():
            while pool.idle:
                connection = pool.idle.popleft()
                if not connection.closed:
                    connection.discard()
                    return

    def _sweep(self) -> None:
        """Close what has been idle too long, before the other side does."""
        self._sweeper = None
        oldest = monotonic() - self._idle_s
        for pool in self._pools.values():
            while pool.idle and (pool.idle[0].closed or pool.idle[0].idle_since <= oldest):
                pool.idle.popleft().discard()
        if any(pool.idle for pool in self._pools.values()):
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(self._idle_s / 2, self._sweep)


def _give_up(waiter: "asyncio.Future[Connection | NotSent | None]") -> None:
    if not waiter.done():
        waiter.set_result(NotSent(reason="every connection was busy"))

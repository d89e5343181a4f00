"""One question to DNS. The library takes 0.15 s to load, so this is imported when a name is first
looked up."""

from typing import Final, NamedTuple

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from easypay.processors.dns_bounds import BoundedBackend

ATTEMPTS_S: Final = ((0.4, 1.2), (2.0, 4.0))
"""How long one server may take, and all of them together. First short, in case a packet was lost;
then long, in case the resolver itself has to ask far away."""
LOOKUP_S: Final = sum(all_s for _, all_s in ATTEMPTS_S)


class Answer(NamedTuple):
    """The addresses that DNS gave, none if it says that there are none, and for how long."""

    addresses: tuple[str, ...]
    ttl_s: float


class LookupFailed(Exception):
    """No server gave a usable answer in time."""


async def query(host: str, record: str, server: tuple[str, int] | None) -> Answer:
    """Ask for a host's records (`A` or `AAAA`), over TCP if the answer is too long for UDP.

    Of a long answer only the first records are taken (`dns_bounds`).
    `server`: the resolver's address and port; None: those of /etc/resolv.conf, with its search
    domains. Takes `LOOKUP_S` at most. Raises LookupFailed.
    """
    try:
        resolver = _resolver(server)
    except (dns.exception.DNSException, OSError, ValueError) as error:
        raise LookupFailed(f"/etc/resolv.conf cannot be used: {error}") from error
    problem: Exception | None = None
    for one_s, all_s in ATTEMPTS_S:
        resolver.timeout, resolver.lifetime = one_s, all_s
        try:
            found = await resolver.resolve(
                host,
                record,
                raise_on_no_answer=False,
                search=True,
                backend=BoundedBackend(),
            )
        except dns.resolver.NXDOMAIN:
            return Answer((), 0)
        except dns.resolver.LifetimeTimeout as error:
            problem = error
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise LookupFailed(f"{type(error).__name__}: {error}") from error
        else:
            records = found.rrset or ()
            return Answer(
                tuple(each.address for each in records), found.chaining_result.minimum_ttl
            )
    raise LookupFailed(f"no answer from the resolver in time: {problem}")


def _resolver(server: tuple[str, int] | None) -> dns.asyncresolver.Resolver:
    """Return a new one each time, so that a changed /etc/resolv.conf is noticed."""
    if server is not None:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(*server)]
        return resolver
    try:
        return dns.asyncresolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]  # as the C library does
        return resolver

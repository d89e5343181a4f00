"""Connect to a host name: its addresses are tried in turn, each with a small head start (RFC 8305).

The first that accepts wins, so a family or an address that is dead costs `HEAD_START_S`, and from
then on it is tried last for a while. Nothing is sent here: what fails here may be tried again.
"""

import socket
from typing import Final

import aiohappyeyeballs

from easypay.processors.host_names import HostNames, family_of

HEAD_START_S: Final = 0.25
MOST_ADDRESSES: Final = 8
"""How many addresses one connect tries, so that a long answer opens no crowd of sockets."""


async def connect(names: HostNames, host: str, port: int) -> tuple[socket.socket, str]:
    """Return a connected TCP socket and the address that it leads to.

    Raises NoAddress, and OSError if every address refuses. The time limit is the caller's.
    """
    addresses = (await names.addresses(host)).all[:MOST_ADDRESSES]
    leads_to: dict[socket.socket, str] = {}

    def make_socket(info: aiohappyeyeballs.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, target = info
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        leads_to[sock] = str(target[0])
        return sock

    try:
        sock = await aiohappyeyeballs.start_connection(
            [
                (family_of(each), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (each, port))
                for each in addresses
            ],
            happy_eyeballs_delay=HEAD_START_S,
            interleave=0,
            socket_factory=make_socket,
        )
    except BaseException as error:  # refused, or the caller's time is over
        for each in leads_to.values():
            names.try_last(each)
        if isinstance(error, RuntimeError):  # uvloop, for some errors of a socket
            raise OSError(str(error)) from error
        raise
    address = leads_to[sock]
    for slower in addresses[: addresses.index(address)]:
        names.try_last(slower)
    return sock, address

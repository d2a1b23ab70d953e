"""Which machines a URL out of a catalogue may lead to.

A catalogue is other people's text: a URL in it may name this machine, its neighbours or the
metadata service of a cloud. Only addresses that everybody can reach are connected to, and the
connection is made to the very address that was checked: a name that answers differently the
second time gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from llmrec.content.media.deadline import Deadline
from llmrec.content.media.errors import SourceError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What Python, in some versions, counts to the open internet: site-local addresses (RFC 3879),
# protocol assignments (RFC 6890), relays of 6to4 (RFC 7526), documentation (RFC 9637).
_CLOSED = [
    ipaddress.ip_network(text)
    for text in ("fec0::/10", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")
]
# Where clouds tell a machine its own credentials; the one of Azure looks like any other address.
_METADATA = {
    ipaddress.ip_address(text)
    for text in (
        *("169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200"),
        *("168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
    )
}


def is_public(address: Address) -> bool:
    """Whether an address is one of the open internet; what an IPv6 address wraps counts too.

    >>> is_public(ipaddress.ip_address("::ffff:127.0.0.1"))
    False
    """
    inner = _wrapped(address)
    if inner is not None:
        return is_public(inner)
    closed = address in _METADATA or any(address in network for network in _CLOSED)
    return address.is_global and not (closed or address.is_multicast or address.is_reserved)


def is_metadata(address: Address) -> bool:
    """Whether a cloud's metadata service answers there."""
    return (_wrapped(address) or address) in _METADATA


def _wrapped(address: Address) -> Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def connect(
    host: str, port: int, timeout: float, deadline: Deadline, allowed: Sequence[Network]
) -> socket.socket:
    """Open a TCP connection to ``host`` if every address it has may be reached.

    Args:
        host: a name or an address.
        port: of the server.
        timeout: seconds for each attempt.
        deadline: for all of them, and for finding the addresses.
        allowed: networks that may be reached although they are not public; metadata services
            of clouds are not reached there either.

    Raises:
        SourceError: if the name has no address or one that may not be reached, nobody answers, or
            time is up.
    """
    addresses = deadline.run(host, lambda: _resolve(host, port))
    for address in addresses:
        may = any(address in network for network in allowed) and not is_metadata(address)
        if not is_public(address) and not may:
            raise SourceError(f"{host} leads to {address}, which is not a public address")
    failure: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection(
                (str(address), port), min(timeout, deadline.check(host))
            )
        except OSError as error:
            failure = error
    raise SourceError(f"{host}: cannot be reached ({failure})")


def _resolve(host: str, port: int) -> list[Address]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise SourceError(f"{host}: has no address ({error})") from None
    # "%" parts a link-local address from its interface
    texts = dict.fromkeys(str(sockaddr[0]).split("%")[0] for *_, sockaddr in found)
    return [ipaddress.ip_address(text) for text in texts]

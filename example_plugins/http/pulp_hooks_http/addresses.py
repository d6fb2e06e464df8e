"""Which addresses may be connected to: those of the internet, and those that the operator allows.

A webhook is sent to a URL that somebody entered, from inside of a network. Without this guard it could reach what only
the inside can: databases, consoles, the metadata service of a cloud (server-side request forgery).
"""

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from queue import Empty, SimpleQueue
from threading import Thread

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED_V4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # the platform of Azure, reachable from its machines alone
        "169.254.0.0/16",  # link-local; metadata services of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved; broadcast
    )
]
"""IANA's registry of special-purpose addresses, which versions of Python know to different degrees."""

_INTERNET_V6 = IPv6Network("2000::/3")
"""Everything else in IPv6 is loopback, link-local, unique local, multicast or reserved."""

_REFUSED_V6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo
        "2001:db8::/32",  # documentation
        "3fff::/20",  # documentation
    )
]

_WITH_IPV4 = {
    IPv6Network("::/96"): 0,  # IPv4-compatible
    IPv6Network("::ffff:0:0/96"): 0,  # IPv4-mapped
    IPv6Network("::ffff:0:0:0/96"): 0,  # IPv4-translated
    IPv6Network("64:ff9b::/96"): 0,  # NAT64
    IPv6Network("2002::/16"): 80,  # 6to4
}
"""Networks whose addresses lead to an IPv4 address, and how many bits stand after it."""


class AddressRefusedError(Exception):
    """A name has no address that may be connected to."""


def is_allowed(address: Address, allow: Sequence[Network] = ()) -> bool:
    """Return whether an address may be connected to.

    Args:
        address: The address.
        allow: Networks that the operator allows.
    """
    if is_inside(address, allow):
        return True
    inner = _ipv4_in(address)
    if inner is not None:
        return not any(inner in network for network in _REFUSED_V4)
    return address in _INTERNET_V6 and not any(address in network for network in _REFUSED_V6)


def is_inside(address: Address, allow: Sequence[Network]) -> bool:
    """Return whether an address is in one of the networks that the operator allows."""
    inner = _ipv4_in(address)
    return any(
        one.version == network.version and one in network for one in (address, inner) if one for network in allow
    )


def _ipv4_in(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an address is or leads to; null if it leads to none."""
    if isinstance(address, IPv4Address):
        return address
    for network, bits in _WITH_IPV4.items():
        if address in network:
            return IPv4Address(int(address) >> bits & 0xFFFFFFFF)
    return None


def literal_addresses(host: str) -> list[Address]:
    """Return the addresses that a host is in itself, in any spelling that connecting understands; none for a name."""
    try:
        return _looked_up(host, socket.AI_NUMERICHOST)
    except OSError:
        return []


def resolve(host: str, seconds: float) -> list[Address]:
    """Return the addresses of a host.

    Args:
        host: Its name or address.
        seconds: How long to wait for the name service.

    Raises:
        OSError: It has none, or the name service did not answer in time.
    """
    answers: SimpleQueue[list[Address] | OSError] = SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(_looked_up(host))
        except OSError as error:
            answers.put(error)
        except UnicodeError as error:
            answers.put(OSError(str(error)))

    # Nothing else limits how long the name service may take.
    Thread(target=look_up, name="pulp_hooks_http look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, seconds))
    except Empty:
        raise TimeoutError(f"the name service did not answer within {seconds:.1f} s") from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _looked_up(host: str, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    # A scope such as %eth0 is for link-local addresses.
    return list(dict.fromkeys(ip_address(str(place[0]).partition("%")[0]) for *_, place in found))


def parse_network(text: str) -> Network:
    """Return a network in CIDR notation.

    Raises:
        ValueError: It is none.
    """
    return ip_network(text)

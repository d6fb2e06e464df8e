"""The guard against requests into the inside of a network."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulp_hooks_http.addresses import is_allowed, is_inside, literal_addresses

INSIDE = [
    "0.0.0.0",  # noqa: S104 - nothing is bound
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.10",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
OUTSIDE = [
    "1.1.1.1",
    "9.9.9.9",
    "172.32.0.1",
    "2606:4700::1111",
    "64:ff9b::101:101",
    "2002:101:101::1",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("text", INSIDE)
def test_address_of_the_inside_is_refused_unless_it_is_allowed(text: str) -> None:
    """In every form that leads there."""
    address = ip_address(text)
    assert not is_allowed(address)
    assert is_allowed(address, [ip_network(text)])


@pytest.mark.parametrize("text", OUTSIDE)
def test_address_of_the_internet_is_allowed(text: str) -> None:
    """Forms of IPv6 that lead to a public address too."""
    assert is_allowed(ip_address(text))
    assert not is_inside(ip_address(text), [ip_network("10.0.0.0/8")])


@given(st.integers(0, 2**32 - 1), st.sampled_from(["::ffff:0:0", "64:ff9b::", "::"]))
def test_form_of_ipv6_is_judged_as_the_address_it_leads_to(number: int, prefix: str) -> None:
    """For every IPv4 address."""
    inner = ip_address(number)
    outer = ip_address(int(ip_address(prefix)) + number)
    assert is_allowed(outer) == is_allowed(inner)
    assert is_allowed(outer, [ip_network("10.0.0.0/8")]) == is_allowed(inner, [ip_network("10.0.0.0/8")])


@given(st.ip_addresses())
def test_what_python_calls_special_is_refused(address: IPv4Address | IPv6Address) -> None:
    """Whatever it knows as private, loopback, link-local, multicast or reserved, and is no form of a public address."""
    is_special = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
    )
    is_form = any(address in ip_network(form) for form in ("::/96", "::ffff:0:0/96", "64:ff9b::/96"))
    assert not (is_special and is_allowed(address)) or is_form


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1"])
def test_every_spelling_of_an_address_is_seen(host: str) -> None:
    """As the functions that connect understand it."""
    assert literal_addresses(host) == [ip_address("127.0.0.1")]


def test_name_is_no_address() -> None:
    """Nobody is asked for it."""
    assert literal_addresses("example.org") == []

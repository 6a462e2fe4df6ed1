"""Sets of networks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.cidr import NOWHERE, CidrSet, Network, parse_address, parse_cidr


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_reads_in_its_plain_form(text: str, network: str) -> None:
    assert str(parse_cidr(text)) == network


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("10.0.0.1/8", r"did you mean 10\.0\.0\.0/8"),
        ("10.0.0.0/33", "is not an address or network"),
        ("example.com", "is not an address or network"),
        ("", "is not an address or network"),
        ("010.0.0.1", "is not an address or network"),
        ("fe80::1%eth0", "zone"),
        ("9" * 5000, r"^.{0,200}$"),
    ],
)
def test_a_bad_network_says_what_would_be_right(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_cidr(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("10.0.0.1:80", None),
        ("unknown", None),
        ("10.0.0.256", None),
        ("10.0.0.01", None),
        ("10.0.0.", None),
        ("1.2.3.٤", None),
        ("64:ff9b::1.2.3.4", "64:ff9b::102:304"),
        ("", None),
    ],
)
def test_an_address_reads_in_its_plain_form(text: str, address: str | None) -> None:
    found = parse_address(text)

    assert (None if found is None else str(found)) == address


v4_networks = st.builds(
    lambda number, length: ip_network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
v6_networks = st.builds(
    lambda number, length: ip_network((number << 96 >> (128 - length) << (128 - length), length)),
    st.integers(1, 2**32 - 1),
    st.integers(32, 128),
)
networks = st.one_of(v4_networks, v6_networks)
addresses = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(2**64, 2**128 - 1).map(IPv6Address)
)


@given(st.lists(networks, max_size=30), st.lists(networks, max_size=10), addresses, st.integers(0, 60))
def test_the_longest_network_that_holds_an_address_is_found(
    added: list[Network], removed: list[Network], address: IPv4Address | IPv6Address, hit: int
) -> None:
    if hit < len(added):
        address = added[hit].network_address
    found = CidrSet(added)
    for network in removed:
        found.discard(network)
    left = set(added) - set(removed)

    holding = [n.prefixlen for n in left if n.version == address.version and address in n]

    read = parse_address(str(address))

    assert read is not None
    assert (read.bits, read.number) == (address.max_prefixlen, int(address))
    assert found.longest(read) == max(holding, default=NOWHERE)
    assert (read in found) is bool(holding)
    assert set(found) == left
    assert len(found) == len(left)
    assert all(found.lists(network) for network in left)
    assert not any(found.lists(network) for network in set(removed) - left)

"""Sets of networks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.cidr import NOWHERE, Address, CidrSet, Network, parse_address, parse_cidr


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("203.0.113.7", "203.0.113.7/32"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.0/0104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1", "10.0.0.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
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
        ("::ffff:10.0.0.0/90", r"did you mean ::ffc0:0:0/90"),
        ("10.0.0.0/", "is not an address or network"),
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


def network(bits: int, number: int, length: int) -> Network:
    return Network(bits, number >> (bits - length) << (bits - length), length)


# Few different numbers, so that networks hold each other and addresses hit them.
v4_numbers = st.sampled_from([0, 1 << 31, 0x0A000000, 0x0A010203, 0x0A0102FF, 2**32 - 1])
v6_numbers = st.sampled_from(
    [1 << 127, 0x20010DB8 << 96, 0x20010DB8 << 96 | 7 << 64 | 9, 2**128 - 1, 1 << 96]
)
v4_networks = st.builds(network, st.just(32), v4_numbers | st.integers(0, 2**32 - 1), st.integers(0, 32))
v6_networks = st.builds(network, st.just(128), v6_numbers | st.integers(0, 2**128 - 1), st.integers(0, 128))
networks = st.one_of(v4_networks, v6_networks)
addresses = st.one_of(
    v4_numbers.map(lambda number: Address(32, number)), v6_numbers.map(lambda number: Address(128, number))
)


def holds(one: Network, address: Address) -> bool:
    shift = one.bits - one.length
    return one.bits == address.bits and one.number >> shift == address.number >> shift


@given(st.lists(networks, max_size=60), st.lists(networks, max_size=10), addresses, st.integers(0, 60))
def test_the_longest_network_that_holds_an_address_is_found(
    added: list[Network], removed: list[Network], address: Address, hit: int
) -> None:
    if hit < len(added):
        address = Address(added[hit].bits, added[hit].number)
        removed = [*removed, *added[hit + 1 : hit + 5]]
    found = CidrSet(added)
    for each in removed:
        found.discard(each)
    left = set(added) - set(removed)

    holding = [each.length for each in left if holds(each, address)]

    assert found.longest(address) == max(holding, default=NOWHERE)
    assert (address in found) is bool(holding)
    assert list(found) == sorted(left)
    assert len(found) == len(left)
    assert all(found.marks(each) == 1 for each in left)
    assert not any(found.marks(each) for each in set(removed) - left)


@given(st.lists(st.tuples(st.booleans(), networks, st.sampled_from([1, 2, 4])), max_size=40), addresses)
def test_a_network_is_there_while_it_has_a_mark(
    steps: list[tuple[bool, Network, int]], address: Address
) -> None:
    found = CidrSet()
    model: dict[Network, int] = {}
    for adds, each, mark in steps:
        if adds:
            found.add(each, mark)
            model[each] = model.get(each, 0) | mark
        else:
            found.discard(each, mark)
            model[each] = model.get(each, 0) & ~mark
    alive = {each: marks for each, marks in model.items() if marks}

    holding = sorted((each for each in alive if holds(each, address)), key=lambda each: -each.length)

    assert dict(found.items()) == alive
    assert found.look(address) == ((holding[0].length, alive[holding[0]]) if holding else (NOWHERE, 0))
    assert list(found.holding(address)) == [(each, alive[each]) for each in holding]


@pytest.mark.parametrize(
    ("address", "length"),
    [
        ("2001:db8:1:1::1", 64),
        ("2001:db8:1:2::1", 48),
        ("2001:db8:2::1", 40),
        ("2001:db8:100::1", 34),
        ("2001:db9::1", NOWHERE),
        ("10.1.2.3", 24),
        ("10.1.3.3", 8),
        ("11.0.0.1", NOWHERE),
    ],
)
def test_networks_within_networks(address: str, length: int) -> None:
    found = CidrSet(
        map(
            parse_cidr,
            [
                "2001:db8:1:1::/64",
                "2001:db8:1::/48",
                "2001:db8::/40",
                "2001:db8::/34",
                "10.1.2.0/24",
                "10.0.0.0/8",
            ],
        )
    )
    read = parse_address(address)

    assert read is not None
    assert found.longest(read) == length
    assert [network.length for network, _ in found.holding(read)][:1] == ([length] if length >= 0 else [])


def test_a_network_on_two_lists_leaves_one_and_stays_on_the_other() -> None:
    network = parse_cidr("10.0.0.0/8")
    found = CidrSet([network], 1)
    found.add(network, 2)
    found.discard(network, 1)

    assert found.marks(network) == 2
    assert found.look(Address(32, network.number)) == (8, 2)


def test_one_of_two_neighbours_is_removed() -> None:
    one, other = parse_cidr("2001:db8:1::/48"), parse_cidr("2001:db8:2::/48")
    found = CidrSet([one, other])
    found.discard(one)
    found.discard(one)

    assert list(found) == [other]
    assert found.longest(Address(128, other.number)) == 48
    assert found.longest(Address(128, one.number)) == NOWHERE


def test_a_set_that_was_emptied_keeps_nothing() -> None:
    everything = [network(128, 2**128 - 1, length) for length in range(129)]
    everything += [network(32, 2**32 - 1, length) for length in range(33)]
    found = CidrSet(everything)
    for each in everything:
        found.discard(each)

    assert list(found) == []
    assert not any(half.by_length or half.groups or any(half.held.values()) for half in (found.v4, found.v6))


sparse = st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF, 0xABC]), min_size=8, max_size=8).map(
    lambda groups: IPv6Address(int("".join(f"{group:04x}" for group in groups), 16))
)


@given(
    st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(0, 2**128 - 1).map(IPv6Address), sparse)
)
def test_every_address_reads_as_the_standard_library_reads_it(address: IPv4Address | IPv6Address) -> None:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    plain = mapped or address

    for text in (str(address), address.exploded, str(address).upper()):
        read = parse_address(text)
        assert read is not None
        assert (read.bits, read.number, str(read)) == (plain.max_prefixlen, int(plain), str(plain))


@given(st.text("0123456789abcdefABCDEFg:./%٤ \0", max_size=24))
def test_text_is_an_address_where_the_standard_library_says_so(text: str) -> None:
    try:
        known = str(parse_address(str(ip_address(text.partition("%")[0] if ":" in text else text))))
    except ValueError:
        known = "None"

    assert str(parse_address(text)) == known


@given(st.text("0123456789abcdef:./", max_size=20) | networks.map(str))
def test_text_is_a_network_where_the_standard_library_says_so(text: str) -> None:
    try:
        known: str | None = str(ip_network(text))
    except ValueError:
        known = None
    try:
        read: str | None = str(parse_cidr(text))
    except ValueError:
        read = None

    assert (read is None) is (known is None)
    if known is not None and not known.startswith("::ffff:"):
        assert read == known

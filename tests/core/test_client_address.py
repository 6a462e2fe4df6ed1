"""Who is behind trusted proxies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.client_address import MAX_CLIENTS, MAX_HOPS, MAX_REMEMBERED_BYTES, ProxyWalker

TRUSTED = ["10.0.0.0/8", "2001:db8:1::/48"]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        pytest.param("203.0.113.9", "1.2.3.4", "203.0.113.9", id="a stranger is not believed"),
        pytest.param("10.0.0.1", "1.2.3.4", "1.2.3.4", id="a trusted proxy is"),
        pytest.param("10.0.0.1", "6.6.6.6, 1.2.3.4", "1.2.3.4", id="what the client invented is left of it"),
        pytest.param("10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4", id="trusted hops are passed"),
        pytest.param("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3", id="all trusted: the farthest"),
        pytest.param("10.0.0.1", "6.6.6.6, junk, 10.0.0.2", "10.0.0.2", id="garbage ends the walk"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="empty"),
        pytest.param("10.0.0.1", "1.2.3.4, ", "10.0.0.1", id="an empty hop is garbage"),
        pytest.param("10.0.0.1", "1.2.3.4:8080", "1.2.3.4", id="with a port"),
        pytest.param("10.0.0.1", "[2001:db8::7]:8080", "2001:db8::7", id="IPv6 with a port"),
        pytest.param("10.0.0.1", "2001:db8::7", "2001:db8::7", id="IPv6 bare"),
        pytest.param("10.0.0.1", "[2001:db8::7]x", "10.0.0.1", id="junk behind a bracket"),
        pytest.param("10.0.0.1", "1.2.3.4:x", "10.0.0.1", id="junk for a port"),
        pytest.param("10.0.0.1", "unknown", "10.0.0.1", id="unknown"),
        pytest.param("::ffff:10.0.0.1", "1.2.3.4", "1.2.3.4", id="a mapped proxy"),
        pytest.param("2001:db8:1::5", "::ffff:1.2.3.4", "1.2.3.4", id="a mapped client"),
        pytest.param("", "1.2.3.4", "1.2.3.4", id="a unix socket"),
        pytest.param("10.0.0.1", "fe80::1%eth0", "fe80::1", id="a zone is dropped"),
        pytest.param("10.0.0.1", "[fe80::1%eth0]:80", "fe80::1", id="a zone with a port"),
        pytest.param("10.0.0.1", "2001:DB8:0:0::7", "2001:db8::7", id="one spelling"),
        pytest.param("10.0.0.1", "[::ffff:1.2.3.4]:80", "1.2.3.4", id="mapped with a port"),
        pytest.param("10.0.0.1", "1.2.3.04", "10.0.0.1", id="octal or decimal, nobody knows"),
        pytest.param("10.0.0.1", "1.2.3", "10.0.0.1", id="too short"),
        pytest.param("10.0.0.1", "1.2.3.4\t,\t10.0.0.2", "1.2.3.4", id="blanks around"),
        pytest.param("10.0.0.1", "6.6.6.6 1.2.3.4", "10.0.0.1", id="blanks within"),
        pytest.param("1.2.3.4", "10.0.0.2", "1.2.3.4", id="a stranger names a proxy"),
        pytest.param("::ffff:203.0.113.9", "", "203.0.113.9", id="a mapped peer"),
        pytest.param("fe80::1%eth0", "", "fe80::1", id="a peer with a zone"),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(
    peer: str, forwarded_for: str, client: str
) -> None:
    walker = ProxyWalker(TRUSTED)

    assert walker.client_of(peer, forwarded_for.encode(), None) == client
    assert walker.client_of(peer, forwarded_for.encode(), None) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("for=1.2.3.4", "1.2.3.4"),
        ("For=1.2.3.4;proto=https;by=10.0.0.1", "1.2.3.4"),
        ('proto=http; for="[2001:db8::7]:4711"', "2001:db8::7"),
        ("for=6.6.6.6, for=1.2.3.4, for=10.0.0.2", "1.2.3.4"),
        ("for=_hidden", "10.0.0.1"),
        ("for=unknown, for=10.0.0.2", "10.0.0.2"),
        ("for=1.2.3.4;for=6.6.6.6", "10.0.0.1"),
        ("proto=https", "10.0.0.1"),
        ('for="1.2.3.4', "10.0.0.1"),
    ],
)
def test_the_standard_header_is_walked_the_same_way(forwarded: str, client: str) -> None:
    assert ProxyWalker(TRUSTED).client_of("10.0.0.1", None, forwarded.encode()) == client


def test_two_headers_that_disagree_are_both_not_believed() -> None:
    walker = ProxyWalker(TRUSTED)

    assert walker.client_of("10.0.0.1", b"1.2.3.4", b"for=1.2.3.4") == "1.2.3.4"
    assert walker.client_of("10.0.0.1", b"6.6.6.6", b"for=1.2.3.4") == "10.0.0.1"


def test_without_trusted_proxies_nobody_is_believed() -> None:
    walker = ProxyWalker([])

    assert walker.client_of("10.0.0.1", b"1.2.3.4", b"for=1.2.3.4") == "10.0.0.1"
    assert walker.client_of("", b"1.2.3.4", None) == ""
    assert len(walker.clients) == 2


@given(st.lists(st.sampled_from(["6.6.6.6", "10.0.0.2", "junk", "", "7.7.7.7"]), max_size=6))
def test_nothing_left_of_what_our_proxy_wrote_matters(invented: list[str]) -> None:
    header = ", ".join([*invented, "1.2.3.4", "10.0.0.2"])

    assert ProxyWalker(TRUSTED).client_of("10.0.0.1", header.encode(), None) == "1.2.3.4"


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_give_a_client(forwarded_for: bytes, forwarded: bytes) -> None:
    assert ProxyWalker(TRUSTED).client_of("10.0.0.1", forwarded_for, forwarded)


@pytest.mark.parametrize("hops", [1, MAX_HOPS - 1, MAX_HOPS, MAX_HOPS + 1, 500])
def test_a_chain_is_read_hop_by_hop_up_to_a_bound(hops: int) -> None:
    """The caller cannot push the address that our proxy wrote out of sight, nor hide behind a long chain."""
    near = ["1.2.3.4", *["10.0.0.2"] * (min(hops, MAX_HOPS) - 1)]
    header = ", ".join(["6.6.6.6"] * (hops - len(near)) + near)

    assert ProxyWalker(TRUSTED).client_of("10.0.0.1", header.encode(), None) == "1.2.3.4"
    only_proxies = ", ".join(["6.6.6.6", *["10.0.0.2"] * MAX_HOPS])
    assert ProxyWalker(TRUSTED).client_of("10.0.0.1", only_proxies.encode(), None) == "10.0.0.2"


def test_what_is_remembered_of_clients_is_bounded() -> None:
    walker = ProxyWalker(TRUSTED)
    for number in range(MAX_CLIENTS + 5):
        walker.client_of("10.0.0.1", b"%d" % number, None)

    assert len(walker.clients) <= MAX_CLIENTS


def test_a_header_too_long_to_be_remembered_is_walked_all_the_same() -> None:
    walker = ProxyWalker(TRUSTED)
    header = b"x" * MAX_REMEMBERED_BYTES + b", 1.2.3.4"

    assert walker.client_of("10.0.0.1", header, None) == "1.2.3.4"
    assert walker.clients == {}

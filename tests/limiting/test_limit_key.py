"""Whom a limit counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.http import Request
from silence_gateway.limiting.limit_key import compile_key, join_key, network_of, shows_secrets


def request(client_ip: str = "10.0.0.1", user: str = "", tenant: str | None = None) -> Request:
    headers = {} if tenant is None else {b"x-tenant": tenant.encode("latin-1")}
    asked = Request("GET", "/v1/things/7?q=1", headers, peer=client_ip)
    asked.user = user
    asked.route = "/v1/things/{id}"
    return asked


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("client_ip", "10.0.0.1"),
        ("user", "ann"),
        ("method", "GET"),
        ("route", "/v1/things/{id}"),
        ("path", "/v1/things/7"),
        ("const", "const"),
        ("header:X-Tenant", "acme"),
        ("header:X-Missing", ""),
    ],
)
def test_a_key_of_one_part_is_its_plain_value(part: str, value: str) -> None:
    assert compile_key([part])(request(user="ann", tenant="acme")) == value


def test_several_parts_are_joined_encoded() -> None:
    key = compile_key(["client_ip", "header:x-tenant", "path"])(request(tenant="a,b%"))

    assert key == "10.0.0.1,a%2Cb%25,%2Fv1%2Fthings%2F7"


@given(st.lists(st.text(), min_size=2, max_size=3), st.lists(st.text(), min_size=2, max_size=3))
def test_no_values_can_pretend_to_be_others(first: list[str], second: list[str]) -> None:
    assert (join_key(first) == join_key(second)) is (first == second)


@pytest.mark.parametrize(
    ("one", "other"), [(("a,b", "c"), ("a", "b,c")), (("a%2Cb", "c"), ("a,b", "c")), (("", "a"), ("a", ""))]
)
def test_the_usual_forgeries_fail(one: tuple[str, str], other: tuple[str, str]) -> None:
    key_of = compile_key(["user", "header:x-tenant"])

    assert key_of(request(user=one[0], tenant=one[1])) != key_of(request(user=other[0], tenant=other[1]))


@given(st.text(max_size=12), st.sampled_from(["10.0.0.1", "2001:db8::1"]))
def test_no_user_name_counts_as_an_anonymous_caller(user: str, ip: str) -> None:
    key_of = compile_key(["user"])
    for name in (user, "~" + user, "~10.0.0.1", "10.0.0.1", "~2001:db8::/64"):
        if name:
            assert key_of(request(ip, user=name)) != key_of(request(ip))


@given(st.text(min_size=1, max_size=5), st.text(min_size=1, max_size=5))
def test_users_count_apart(one: str, other: str) -> None:
    key_of = compile_key(["user"])

    assert (key_of(request(user=one)) == key_of(request(user=other))) is (one == other)


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_ipv6_counts_by_network(ip: str, network: str) -> None:
    assert network_of(ip) == network
    assert network_of(ip) == network


@pytest.mark.parametrize("part", ["", "ip", "header:", "header:a b", "header:é", "claim:x"])
def test_an_unknown_part_is_refused_with_what_there_is(part: str) -> None:
    with pytest.raises(ValueError, match=r"client_ip, user, method"):
        compile_key([part])


def test_a_key_needs_a_part() -> None:
    with pytest.raises(ValueError, match="use const"):
        compile_key([])


def test_headers_that_sound_like_secrets_are_not_shown() -> None:
    assert shows_secrets(["client_ip", "header:X-API-Key"])
    assert shows_secrets(["header:authorization"])
    assert not shows_secrets(["header:x-tenant", "user"])

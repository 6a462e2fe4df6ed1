"""Whom a limit counts."""

from __future__ import annotations

import ipaddress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.http import Request
from silence_gateway.limiting.limit_key import (
    MAX_NETWORKS,
    as_counted,
    compile_key,
    join_key,
    networks,
    shows_secrets,
)


def request(
    client_ip: str = "10.0.0.1",
    user: str = "",
    tenant: str | None = None,
    *,
    api_key: str = "",
    claims: dict[str, Any] | None = None,
    path: str = "/v1/things/7",
) -> Request:
    headers = {} if tenant is None else {b"x-tenant": tenant.encode("latin-1")}
    asked = Request("GET", path + "?q=1", headers, peer=client_ip)
    asked.user = user
    asked.api_key = api_key
    if claims is not None:
        asked.claims = claims
    asked.route = "/v1/things/{id}"
    return asked


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("client_ip", "10.0.0.1"),
        ("user", "ann"),
        ("api_key", "partner"),
        ("claim:tenant", "acme"),
        ("claim:https://example.com/plan", "gold"),
        ("method", "GET"),
        ("route", "/v1/things/{id}"),
        ("path", "/v1/things/7"),
        ("const", "const"),
        ("header:X-Tenant", "acme"),
        ("header:X-Missing", "~"),
    ],
)
def test_a_key_of_one_part_is_its_plain_value(part: str, value: str) -> None:
    asked = request(
        user="ann",
        tenant="acme",
        api_key="partner",
        claims={"tenant": "acme", "https://example.com/plan": "gold"},
    )

    assert compile_key([part])(asked) == value


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


CALLERS = {
    "user": lambda name, ip="10.0.0.1": request(ip, user=name),
    "api_key": lambda name, ip="10.0.0.1": request(ip, api_key=name),
}


@pytest.mark.parametrize("part", CALLERS)
@given(name=st.text(max_size=12), ip=st.sampled_from(["10.0.0.1", "2001:db8::1"]))
def test_no_name_counts_as_an_anonymous_caller(part: str, name: str, ip: str) -> None:
    key_of = compile_key([part])
    for each in (name, "~" + name, "~10.0.0.1", "10.0.0.1", "~2001:db8::/64"):
        if each:
            assert key_of(CALLERS[part](each, ip)) != key_of(request(ip))


@pytest.mark.parametrize("part", CALLERS)
@given(one=st.text(min_size=1, max_size=5), other=st.text(min_size=1, max_size=5))
def test_names_count_apart(part: str, one: str, other: str) -> None:
    key_of = compile_key([part])

    assert (key_of(CALLERS[part](one)) == key_of(CALLERS[part](other))) is (one == other)


@pytest.mark.parametrize(
    ("value", "key"),
    [("acme", "acme"), ("", ""), ("~", "~~"), (7, "7"), (-1.5, "-1.5"), (True, "true"), (False, "false")],
)
def test_a_claim_counts_as_its_text(value: object, key: str) -> None:
    assert compile_key(["claim:c"])(request(claims={"c": value})) == key


@pytest.mark.parametrize("claims", [None, {}, {"other": "x"}, {"c": None}, {"c": ["a"]}, {"c": {"a": 1}}])
def test_without_a_claim_that_is_a_text_or_a_number_requests_count_together(
    claims: dict[str, Any] | None,
) -> None:
    assert compile_key(["claim:c"])(request(claims=claims)) == compile_key(["claim:c"])(request())


texts = st.text(alphabet="ab~,%2C\u00fc", max_size=6)
scalars = texts | st.integers() | st.floats(allow_nan=False) | st.booleans()


@given(value=scalars)
def test_nobody_can_have_a_claim_that_counts_as_none(value: object) -> None:
    key_of = compile_key(["claim:c"])

    assert key_of(request(claims={"c": value})) != key_of(request())


@given(one=texts, other=texts)
def test_claims_count_apart(one: str, other: str) -> None:
    key_of = compile_key(["claim:c"])

    assert (key_of(request(claims={"c": one})) == key_of(request(claims={"c": other}))) is (one == other)


# Somebody who writes all of a request that a caller can write, and has a token of somebody's making.
forgers = st.builds(
    request,
    st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8:0:1::1", "::ffff:10.0.0.1"]),
    texts,
    st.none() | texts,
    api_key=texts,
    claims=st.none() | st.fixed_dictionaries({"c": scalars | st.none()}),
    path=st.sampled_from(["/a", "/a/b", "/a%2Fb", "/a%2fb", "/%61", "/a,b", "/a%2Cb", "/a%252Cb"]),
)
PARTS = ["client_ip", "user", "api_key", "claim:c", "header:x-tenant", "path", "method", "const"]


@given(forgers, forgers, st.lists(st.sampled_from(PARTS), min_size=2, max_size=4, unique=True))
def test_a_key_of_several_parts_is_the_same_only_where_each_part_is(
    one: Request, other: Request, parts: list[str]
) -> None:
    """However a caller chooses what it sends, it cannot move text from one part into another."""
    whole = compile_key(parts)
    each = [compile_key([part]) for part in parts]

    assert (whole(one) == whole(other)) is all(key_of(one) == key_of(other) for key_of in each)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/v1/things", "/v1/%74hings", True),
        ("/v1/a%2fb", "/v1/a%2Fb", True),
        ("/v1/a%3Ab", "/v1/a:b", True),
        ("/v1/%C3%BC", "/v1/%c3%bc", True),
        ("/v1/a%2Fb", "/v1/a/b", False),
        ("/v1/a%252Fb", "/v1/a%2Fb", False),
        ("/v1/a%25", "/v1/a", False),
        ("/v1/bad%zz", "/v1/bad", False),
    ],
)
def test_a_path_is_the_same_however_it_is_spelled(one: str, other: str, same: bool) -> None:
    key_of = compile_key(["path"])

    assert (key_of(request(path=one)) == key_of(request(path=other))) is same


segments = st.lists(st.text(alphabet="a/%.:\u00fc", min_size=1, max_size=4), min_size=1, max_size=3)


@given(segments, segments, st.randoms(use_true_random=False))
def test_paths_count_apart_where_their_segments_differ(
    one: list[str], other: list[str], random: Random
) -> None:
    def spelled(parts: list[str]) -> str:
        written = [
            "".join(
                char
                if char not in "/%" and char.isascii() and random.random() < 0.5
                else "".join(f"%{byte:02{random.choice('xX')}}" for byte in char.encode())
                for char in part
            )
            for part in parts
        ]
        return "/" + "/".join(written)

    if any(part in {".", ".."} for part in [*one, *other]):
        return  # nothing is served there
    key_of = compile_key(["path"])

    assert (key_of(request(path=spelled(one))) == key_of(request(path=spelled(other)))) is (one == other)


@pytest.mark.parametrize(
    ("ip", "prefix", "network"),
    [
        ("10.0.0.1", 64, "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", 64, "2001:db8:1:3::/64"),
        ("2001:db8:1:2:3:4:5:6", 56, "2001:db8:1::/56"),
        ("2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::/48"),
        ("2001:db8:1:2:3:4:5:6", 32, "2001:db8::/32"),
        ("2001:DB8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"),
        ("::ffff:10.0.0.1", 64, "10.0.0.1"),
        ("::ffff:10.0.0.1", 128, "10.0.0.1"),
        ("fe80::1%eth0", 64, "fe80::/64"),
        ("fe80::1%eth0", 128, "fe80::1"),
        ("not:an:address", 64, "not:an:address"),
        ("", 64, ""),
    ],
)
def test_ipv6_counts_by_network(ip: str, prefix: int, network: str) -> None:
    network_of = networks(prefix)

    assert network_of(ip) == network
    assert network_of(ip) == network
    assert compile_key(["client_ip"], prefix)(request(ip)) == network
    assert compile_key(["user"], prefix)(request(ip)) == "~" + network


def test_what_is_remembered_of_networks_is_bounded() -> None:
    network_of = networks(77)
    known = {network_of(f"2001:db8::{number:x}") for number in range(MAX_NETWORKS + 10)}

    assert known == {"2001:db8::/77"}
    (remembered,) = [
        cell.cell_contents for cell in network_of.__closure__ or () if isinstance(cell.cell_contents, dict)
    ]
    assert len(remembered) <= MAX_NETWORKS


@pytest.mark.parametrize("prefix", [0, 31, 129])
def test_a_prefix_that_groups_nothing_sensible_is_refused(prefix: int) -> None:
    with pytest.raises(ValueError, match="ipv6_prefix is 32 to 128"):
        compile_key(["client_ip"], prefix)


@pytest.mark.parametrize(
    "part", ["", "ip", "header:", "header:a b", "header:é", "claim:", "claim:" + "x" * 201]
)
def test_an_unknown_part_is_refused_with_what_there_is(part: str) -> None:
    with pytest.raises(ValueError, match=r"client_ip, user, api_key, method"):
        compile_key([part])


def test_a_key_needs_a_part() -> None:
    with pytest.raises(ValueError, match="use const"):
        compile_key([])


def test_headers_that_sound_like_secrets_are_not_shown() -> None:
    assert shows_secrets(["client_ip", "header:X-API-Key"])
    assert shows_secrets(["header:authorization"])
    assert shows_secrets(["claim:session_id"])
    assert not shows_secrets(["api_key", "claim:tenant"])
    assert not shows_secrets(["header:x-tenant", "user"])


def test_a_header_that_is_empty_or_pretends_is_not_one_that_is_missing() -> None:
    key_of = compile_key(["header:X-Tenant"])
    given = [None, b"", b"~", b"~~", "\u00fc".encode(), b"\xfc"]
    keys = [
        key_of(Request("GET", "/", {} if value is None else {b"x-tenant": value}, b"")) for value in given
    ]

    assert keys == ["~", "", "~~", "~~~", "\u00fc", "\udcfc"]


@pytest.mark.parametrize(
    ("part", "written", "counted"),
    [
        ("client_ip", "2001:DB8::5", "2001:db8::/64"),
        ("client_ip", "2001:db8::/64", "2001:db8::/64"),
        ("client_ip", "::ffff:192.0.2.1", "192.0.2.1"),
        ("client_ip", "192.0.2.1/32", "192.0.2.1"),
        ("client_ip", "", ""),
        ("user", "~2001:db8::5", "~2001:db8::/64"),
        ("user", "2001:db8::5", "2001:db8::5"),
        ("api_key", "~~ann", "~~ann"),
        ("header:X-Tenant", "2001:db8::5", "2001:db8::5"),
    ],
)
def test_what_an_operator_writes_is_what_requests_count_as(part: str, written: str, counted: str) -> None:
    assert as_counted(part, written, 64) == counted


@pytest.mark.parametrize("written", ["999.1.1.1", "ann", "192.0.2.0/24", "2001:db8::/32", "2001:db8::5/128"])
def test_what_is_never_counted_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="it counts"):
        as_counted("client_ip", written, 64)


@given(st.ip_addresses(v=6), st.integers(32, 128))
def test_any_spelling_of_an_address_counts_as_its_requests_do(
    address: ipaddress.IPv6Address, prefix: int
) -> None:
    request = Request("GET", "/", {}, b"", peer=str(address))

    assert as_counted("client_ip", address.exploded.upper(), prefix) == compile_key(["client_ip"], prefix)(
        request
    )

"""Whom a limit in an app counts, and whom nobody can be taken for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asgi.driver import http_scope

from silence_gateway.asgi.key import MAX_VALUE_CHARS, Key, KeyFunction, KeyReader, client_reader
from silence_gateway.asgi.protocol import CONNECTION, Scope
from silence_gateway.core.client_address import ProxyWalker

CLIENT_OF = client_reader(ProxyWalker(()))

values = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.text(alphabet=",~%#2C7Ea", max_size=6),
    st.text(min_size=MAX_VALUE_CHARS - 1, max_size=MAX_VALUE_CHARS + 40),
)
header_values = st.one_of(
    st.none(), st.binary(max_size=20), st.binary(min_size=MAX_VALUE_CHARS, max_size=MAX_VALUE_CHARS + 20)
)


def key_of(key: Key, scope: Scope | None = None, **options: Any) -> str:
    return asyncio.run(KeyReader(key, **options).read(http_scope() if scope is None else scope, CLIENT_OF))


def functions(count: int) -> Key:
    def at(index: int) -> KeyFunction:
        return lambda scope: scope["values"][index]

    return [at(index) for index in range(count)]


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*[st.tuples(*[values] * n)] * 2)))
def test_two_callers_have_one_key_only_if_they_are_the_same_in_every_part(
    both: tuple[tuple[str | None, ...], tuple[str | None, ...]],
) -> None:
    one, other = (key_of(functions(len(each)), {"values": each}) for each in both)

    assert (one == other) == (both[0] == both[1])


@given(st.lists(header_values, min_size=2, max_size=2), st.sampled_from(["x-tenant", "authorization"]))
def test_no_header_can_be_forged_to_count_as_another_or_as_none(both: list[bytes | None], name: str) -> None:
    one, other = (
        key_of(
            [f"header:{name}", "const"],
            http_scope(headers=[] if value is None else [(name.encode(), value)]),
        )
        for value in both
    )

    assert (one == other) == (both[0] == both[1])


addresses = st.one_of(st.just(""), st.ip_addresses().map(str))


@given(st.one_of(values, addresses, addresses.map("~{}".format)), addresses)
def test_nobody_can_be_named_like_an_address_without_a_name(name: str | None, address: str) -> None:
    """Who is not logged in counts by address, however somebody else is called."""
    nobody = key_of("user", http_scope(client=(address, 1)))
    somebody = key_of("user", http_scope(user=name or "x", client=("192.0.2.1", 1)))

    assert nobody != somebody


@given(st.text(max_size=2000))
def test_a_key_is_bounded_however_long_what_it_is_made_of(text: str) -> None:
    scope = http_scope(text, user=text or "x", values=(text,))

    assert len(key_of(["path", "user", lambda scope: scope["values"][0]], scope)) <= 3 * 12 * (
        MAX_VALUE_CHARS + 1
    )
    assert len(key_of("path", scope)) <= MAX_VALUE_CHARS + 1


def test_the_address_is_the_peer_and_ipv6_its_network() -> None:
    assert key_of("client_ip") == "192.0.2.7"
    assert key_of("client_ip", http_scope(client=("::ffff:192.0.2.7", 1))) == "192.0.2.7"
    assert key_of("client_ip", http_scope(client=("2001:db8::1", 1))) == "2001:db8::/64"
    assert key_of("client_ip", http_scope(client=("2001:db8::1", 1)), ipv6_prefix=128) == "2001:db8::1"
    assert key_of("client_ip", http_scope(client=None)) == ""


def test_headers_that_come_twice_are_one_list_before_they_are_walked() -> None:
    client_of = client_reader(ProxyWalker(["192.0.2.0/24"]))
    lines = [(b"x-forwarded-for", b"198.51.100.9"), (b"x-forwarded-for", b"203.0.113.5")]

    assert client_of(http_scope(headers=lines)) == "203.0.113.5"


def test_words_say_what_they_say() -> None:
    assert key_of("method", http_scope(method="PUT")) == "PUT"
    assert key_of("path", http_scope("/a/ä")) == "/a/ä"
    assert key_of("const") == "const"
    assert key_of("header:X-Tenant", http_scope(headers=[(b"x-tenant", b"acme")])) == "acme"
    assert key_of("connection", {CONNECTION: 7}) == "7"
    assert key_of(["client_ip", "method"]) == "192.0.2.7,GET"


def test_secrets_are_hashed_before_they_go_anywhere() -> None:
    key = key_of("header:Authorization", http_scope(headers=[(b"authorization", b"Bearer s3cret")]))

    assert "s3cret" not in key
    assert key.startswith("~#")


async def later(_scope: Scope) -> UUID:
    await asyncio.sleep(0)
    return UUID(int=5)


def test_functions_may_wait_and_may_return_names_and_numbers() -> None:
    assert key_of(later) == str(UUID(int=5))
    assert key_of(lambda _: 7) == "7"
    assert key_of(lambda _: None) == "~"
    assert key_of([later, "method"]) == f"{UUID(int=5)},GET"


@pytest.mark.parametrize("value", [True, 1.5, b"x", ["a"], object()])
def test_functions_that_name_nobody_are_mistakes(value: object) -> None:
    with pytest.raises(TypeError, match="a key function returns"):
        key_of(lambda _: value)  # type: ignore[arg-type]


class Unnamed:
    """As Starlette's base class of users."""

    is_authenticated = True

    @property
    def identity(self) -> str:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("user", "key"),
    [
        pytest.param("ann", "ann", id="text"),
        pytest.param("~ann", "~~ann", id="text-that-looks-like-nobody"),
        pytest.param(SimpleNamespace(identity="ann", id=3), "ann", id="starlette"),
        pytest.param(SimpleNamespace(id=3), "3", id="record"),
        pytest.param(SimpleNamespace(username="ann"), "ann", id="simple-user"),
        pytest.param(SimpleNamespace(is_authenticated=False, id=3), "~192.0.2.7", id="unauthenticated"),
        pytest.param(None, "~192.0.2.7", id="nobody"),
    ],
)
def test_a_user_is_who_authentication_says(user: object, key: str) -> None:
    assert key_of("user", http_scope(user=user)) == key


@pytest.mark.parametrize("user", [Unnamed(), SimpleNamespace(display_name="ann"), SimpleNamespace(id=True)])
def test_a_user_without_a_name_is_an_error_and_not_everybody(user: object) -> None:
    with pytest.raises(TypeError, match="use a function as key"):
        key_of("user", http_scope(user=user))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("client", "is no part of a key"),
        ("header:", "is no part"),
        ("header:a b", "is no part"),
        ([], "at least one part"),
    ],
)
def test_what_is_no_key_is_said_when_the_limit_is_made(key: Key, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        KeyReader(key)

"""Addresses are read in three forms, and nothing else passes."""

from __future__ import annotations

import pytest

from silence_gateway.errors import ConfigError
from silence_gateway.upstreams.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:80", Address("10.0.0.1", 80, "", "10.0.0.1:80")),
        ("auth.internal:9001", Address("auth.internal", 9001, "", "auth.internal:9001")),
        ("[::1]:9001", Address("::1", 9001, "", "[::1]:9001")),
        ("unix:/run/x.sock", Address("", 0, "/run/x.sock", "localhost")),
    ],
)
def test_the_three_forms(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["10.0.0.1:80", "[::1]:9001", "unix:/run/x.sock"])
def test_it_is_shown_as_it_was_written(text: str) -> None:
    assert parse_address(text).shown == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":80",
        "http://host:80",
        "//8.8.8.8/host:80",
        "me@host:80",
        "host:0",
        "host:65536",
        "host:x",
        "::1:80",
        "ho st:80",
        "höst:80",
        "unix:",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        parse_address(text)

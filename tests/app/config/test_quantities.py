"""Durations, sizes, addresses: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.app.config.quantities import (
    Address,
    mask_url,
    parse_address,
    parse_duration,
    parse_flag,
    parse_network,
    parse_ratio,
    parse_size,
    parse_whole,
    show_duration,
    show_network,
    show_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("1m", 60.0), ("24h", 86_400.0), ("0s", 0.0), ("1.5s", 1.5)],
)
def test_a_duration_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10 sec", "'10 sec' is not a duration: write 250ms, 5s, 1m, 24h or 7d (did you mean '10s'?)"),
        ("10", "'10' is not a duration: write 250ms, 5s, 1m, 24h or 7d (did you mean '10s'?)"),
        ("5 minutes", "'5 minutes' is not a duration: write 250ms, 5s, 1m, 24h or 7d (did you mean '5m'?)"),
        ("5S", "'5S' is not a duration: write 250ms, 5s, 1m, 24h or 7d (did you mean '5s'?)"),
        ("1m30s", "'1m30s' is not a duration: write 250ms, 5s, 1m, 24h or 7d"),
        ("-1s", "'-1s' is not a duration: write 250ms, 5s, 1m, 24h or 7d"),
        ("", "'' is not a duration: write 250ms, 5s, 1m, 24h or 7d"),
        ("\x1b[2J", "'\\x1b[2J' is not a duration: write 250ms, 5s, 1m, 24h or 7d"),
        ("٣s", "'٣s' is not a duration: write 250ms, 5s, 1m, 24h or 7d"),
    ],
)
def test_a_wrong_duration_is_told_what_is_right(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_duration(text)

    assert str(caught.value) == message


@given(st.integers(0, 10**9))
def test_a_shown_duration_reads_back_as_itself(milliseconds: int) -> None:
    assert parse_duration(show_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.integers(0, 2**39))
def test_a_shown_size_reads_back_as_itself(size: int) -> None:
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4MB", "'4MB' is not a size: write 512B, 64KiB, 1MiB or 2GiB (did you mean '4MiB'?)"),
        ("4096", "'4096' is not a size: write 512B, 64KiB, 1MiB or 2GiB (did you mean '4096B'?)"),
        ("lots", "'lots' is not a size: write 512B, 64KiB, 1MiB or 2GiB"),
        ("0.3B", "'0.3B' is not a whole number of bytes: write 512B, 64KiB, 1MiB or 2GiB"),
    ],
)
def test_a_wrong_size_is_told_what_is_right(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_size(text)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:8080", Address("::1", 8080)),
        ("unix:/run/x.sock", Address(unix_path="/run/x.sock")),
        ("a-b.example_1.com:65535", Address("a-b.example_1.com", 65535)),
    ],
)
def test_an_address_reads_and_writes_the_same(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


FORMS = "write 127.0.0.1:8080, [::1]:8080 or unix:/run/gateway.sock"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8080", f"'8080' is not an address: {FORMS} (did you mean '127.0.0.1:8080'?)"),
        (":8080", f"':8080' is not an address: {FORMS} (did you mean '127.0.0.1:8080'?)"),
        ("*:80", f"'*:80' is not an address: {FORMS} (did you mean '0.0.0.0:80'?)"),
        ("http://shop:80/", f"'http://shop:80/' is not an address: {FORMS} (did you mean 'shop:80'?)"),
        ("::1:8080", f"'::1:8080' is not an address: {FORMS} (did you mean '[::1]:8080'?)"),
        ("shop", f"'shop' is not an address: {FORMS}"),
        ("shop:70000", "'shop:70000' has no usable port: ports are 0 to 65535"),
        ("unix:", "'unix:' names no socket: write unix:/run/gateway.sock"),
    ],
)
def test_a_wrong_address_is_told_what_is_right(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_address(text)

    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["1.2.3:80", "1.2.3.4.5:80", "256.1.1.1:80", "[zz]:80", "[1.2.3.4]:80"])
def test_numbers_that_only_look_like_an_ip_address_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        parse_address(text)


def test_a_socket_path_fits_into_the_kernels_field() -> None:
    assert parse_address("unix:" + "x" * 103).unix_path
    with pytest.raises(ValueError, match="too long"):
        parse_address("unix:" + "x" * 104)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.0.0.9:1", True), ("[::1]:1", True), ("unix:/x", True), ("localhost:1", True), ("0.0.0.0:1", False),
     ("[::]:1", False), ("10.0.0.1:1", False), ("example.com:1", False)],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(text: str, loopback: bool) -> None:
    assert parse_address(text).is_loopback is loopback


def test_a_network_with_bits_to_the_right_is_told_the_network_it_is_in() -> None:
    with pytest.raises(ValueError) as caught:
        parse_network("10.1.2.3/8")

    assert str(caught.value).endswith("(did you mean '10.0.0.0/8'?)")
    assert show_network(parse_network("203.0.113.7")) == "203.0.113.7"
    assert show_network(parse_network("2001:db8::/32")) == "2001:db8::/32"


@pytest.mark.parametrize(
    ("text", "hint"), [("yes", "'true'"), ("True", "'true'"), ("off", "'false'"), ("0", "'false'")]
)
def test_yes_and_no_are_not_guessed(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_flag(text)


@pytest.mark.parametrize("text", ["0", "1.1", "-0.5", "nan", "inf", "50%", "1e-3", ""])
def test_a_share_is_above_zero_and_at_most_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        parse_ratio(text)


@pytest.mark.parametrize("text", ["1.5", "-1", "1_000", "0x10", "٣", " 1", "1" * 16])
def test_a_whole_number_is_digits(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number"):
        parse_whole(text)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("valkey://u:secret@h:1/0", "valkey://u:***@h:1/0"),
        ("valkey://:secret@h", "valkey://:***@h"),
        ("valkey://u:p@s/e:c@h", "valkey://u:***@h"),
        ("valkey://h:1", "valkey://h:1"),
        ("redis//:secret@h", "***@h"),
    ],
)
def test_a_shown_url_has_no_password(url: str, masked: str) -> None:
    assert mask_url(url) == masked


PARSERS: list[Callable[[str], Any]] = [
    parse_duration, parse_size, parse_whole, parse_ratio, parse_flag, parse_network, parse_address,
]  # fmt: skip


@settings(max_examples=150)
@given(st.one_of(st.text(max_size=40), st.from_regex(r"[\[\]:.0-9a-zA-Z/*% -]{0,30}", fullmatch=True)))
def test_any_text_is_read_or_refused_with_one_printable_line(text: str) -> None:
    for parse in PARSERS:
        try:
            parse(text)
        except ValueError as exc:
            said = str(exc)
        else:
            continue
        assert said.isprintable()
        assert len(said) < 400

"""Store addresses: read once, refused with a reason, and never shown with their password."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.errors import ConfigError
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.url import StoreUrl, parse_store_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("memory://", StoreUrl(scheme="memory")),
        ("embedded://", StoreUrl(scheme="embedded")),
        ("valkey://h", StoreUrl(scheme="valkey", host="h")),
        ("redis://h:7000/3", StoreUrl(scheme="valkey", host="h", port=7000, database=3)),
        ("redis://[::1]:7000", StoreUrl(scheme="valkey", host="::1", port=7000)),
        ("valkey://u:p%40%2F@h/0", StoreUrl(scheme="valkey", host="h", username="u", password="p@/")),
        ("valkey://:p@h", StoreUrl(scheme="valkey", host="h", password="p")),
        ("valkey+unix:///run/a%20b.sock", StoreUrl(scheme="valkey", path="/run/a b.sock")),
        ("unix://u:p@/s?db=2", StoreUrl(scheme="valkey", path="/s", database=2, username="u", password="p")),
    ],
)
def test_an_address_is_read(text: str, url: StoreUrl) -> None:
    assert parse_store_url(text) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("valkeys://h", "TLS is not supported by this version; use valkey://"),
        ("rediss://u:secret@h", "TLS is not supported"),
        ("valkey+sentinel://a,b/m/0", "Sentinel is not supported"),
        ("redis+cluster://a:1,b:2", "Cluster is not supported"),
        ("postgres://u:secret@h", "unknown scheme"),
        ("localhost:6379", "unknown scheme"),
        ("", "unknown scheme"),
        ("valkey://u:secret@", "host is missing"),
        ("valkey://u:secret@h:99999", "cannot be read"),
        ("valkey://u:secret@h:port", "cannot be read"),
        ("valkey://h:0", "port 0"),
        ("valkey://h/zero", "database is a number"),
        ("valkey://h/0?timeout=1", "options belong in"),
        ("valkey+unix://", "write a socket as"),
        ("valkey+unix://host/path", "write a socket as"),
        ("memory://somewhere", "nothing may follow"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason_and_without_the_password(
    text: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        parse_store_url(text)

    assert "secret" not in str(refused.value)


@settings(max_examples=100)
@given(
    password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=20).map(
        lambda text: "S3" + text
    )
)
def test_a_password_is_never_shown(password: str) -> None:
    from urllib.parse import quote

    text = f"valkey://user:{quote(password, safe='')}@host:6379/0"
    url = parse_store_url(text)

    assert url.password == password
    shown = f"{url} {url!r} {StoreSettings(url=text)!r}"
    assert password not in shown
    assert quote(password, safe="") not in shown


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    for address in (text, f"valkey://{text}"):
        try:
            url = parse_store_url(address)
        except ConfigError:
            continue
        assert parse_store_url(str(url)).host == url.host or url.username or url.password


@pytest.mark.parametrize("bad", [{"deadline_s": 0}, {"failures": 0}, {"cool_down_s": 61}, {"url": "x://"}])
def test_settings_are_checked_when_made(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"store\."):
        StoreSettings(**bad)  # type: ignore[arg-type]

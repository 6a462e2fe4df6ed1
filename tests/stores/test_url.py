"""Store addresses: read once, refused with a reason, and never shown with their password."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.errors import ConfigError
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.url import Node, StoreUrl, Topology, parse_store_url

H = (Node("h"),)
SENTINELS = (Node("a", 26379), Node("b", 5000))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("memory://", StoreUrl(scheme="memory")),
        ("embedded://", StoreUrl(scheme="embedded")),
        ("valkey://h", StoreUrl(scheme="valkey", nodes=H)),
        ("redis://h:7000/3", StoreUrl(scheme="valkey", nodes=(Node("h", 7000),), database=3)),
        ("redis://[::1]:7000", StoreUrl(scheme="valkey", nodes=(Node("::1", 7000),))),
        ("valkey://u:p%40%2F@h/0", StoreUrl(scheme="valkey", nodes=H, username="u", password="p@/")),
        ("valkey://:p@h", StoreUrl(scheme="valkey", nodes=H, password="p")),
        ("valkeys://h", StoreUrl(scheme="valkey", nodes=H, tls=True)),
        ("rediss://u@h", StoreUrl(scheme="valkey", nodes=H, tls=True, username="u")),
        ("valkey+unix:///run/a%20b.sock", StoreUrl(scheme="valkey", nodes=(Node("", 0, "/run/a b.sock"),))),
        (
            "unix://u:p@/s?db=2",
            StoreUrl(scheme="valkey", nodes=(Node("", 0, "/s"),), database=2, username="u", password="p"),
        ),
        (
            "valkey+sentinel://u:p%2C@a,b:5000/mymaster/1",
            StoreUrl(
                scheme="valkey",
                topology=Topology.SENTINEL,
                nodes=SENTINELS,
                service="mymaster",
                database=1,
                username="u",
                password="p,",
            ),
        ),
        (
            "rediss+sentinel://a,b:5000/m",
            StoreUrl(scheme="valkey", topology=Topology.SENTINEL, nodes=SENTINELS, service="m", tls=True),
        ),
        (
            "redis+cluster://a:1,[::1]:2,c",
            StoreUrl(
                scheme="valkey",
                topology=Topology.CLUSTER,
                nodes=(Node("a", 1), Node("::1", 2), Node("c", 6379)),
            ),
        ),
        (
            "valkeys+cluster://:p@a/0",
            StoreUrl(
                scheme="valkey", topology=Topology.CLUSTER, nodes=(Node("a", 6379),), tls=True, password="p"
            ),
        ),
    ],
)
def test_an_address_is_read(text: str, url: StoreUrl) -> None:
    assert parse_store_url(text) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("postgres://u:secret@h", "unknown scheme"),
        ("localhost:6379", "unknown scheme"),
        ("", "unknown scheme"),
        ("valkey+cloud://a", "unknown scheme"),
        ("valkey://u:secret@", "host is missing"),
        ("valkey://u:secret@h:99999", "cannot be read"),
        ("valkey://u:secret@h:port", "cannot be read"),
        ("valkey://h:0", "port 0"),
        ("valkey://h/zero", "database is a number"),
        ("valkey://h/0?timeout=1", "options belong in"),
        ("valkey+unix://", "write a socket as"),
        ("valkey+unix://host/path", "write a socket as"),
        ("memory://somewhere", "nothing may follow"),
        ("valkey+sentinel://a,b", "name the service"),
        ("valkey+sentinel://u:secret@a,b/0x y", "name the service"),
        ("valkey+sentinel:///m", "name 1 to 64 hosts"),
        ("valkey+sentinel://u:secret@a:0/m", "cannot be read"),
        ("valkey+sentinel://u:sec/ret@a:x/m", "cannot be read"),
        ("valkey+sentinel://a/m/0/1", "nothing may follow the database"),
        ("valkey+cluster://a/3", "a cluster has one database"),
        ("valkey+cluster://a,b/x", "database is a number"),
        ("valkey+cluster://a,b c", "cannot be read"),
        ("valkey+cluster://a?x=1", "options belong in"),
        ("valkey+cluster://" + ",".join(f"h{n}" for n in range(65)), "name 1 to 64 hosts"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason_and_without_the_password(
    text: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        parse_store_url(text)

    assert "secret" not in str(refused.value)
    assert "sec/ret" not in str(refused.value)


PASSWORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=6, max_size=20)


@settings(max_examples=100)
@given(
    password=PASSWORDS.map(lambda text: "S3" + text),
    around=st.sampled_from(
        [
            ("valkey://user:", "@host:6379/0"),
            ("rediss+cluster://user:", "@h1,h2:6379"),
            ("valkey+sentinel://user:", "@h1,h2/mymaster/0"),
            ("valkey+unix://user:", "@/path?db=1"),
        ]
    ),
)
def test_a_password_is_never_shown(password: str, around: tuple[str, str]) -> None:
    text = around[0] + quote(password, safe="") + around[1]
    url = parse_store_url(text)

    assert url.password == password
    shown = f"{url} {url!r} {StoreSettings(url=text)!r}"
    assert password not in shown
    assert quote(password, safe="") not in shown


@settings(max_examples=300)
@given(
    st.text(max_size=60),
    st.sampled_from(["", "valkey://", "valkeys://", "valkey+sentinel://", "redis+cluster://", "unix://"]),
)
def test_no_text_does_anything_but_parse_or_be_refused(text: str, scheme: str) -> None:
    try:
        url = parse_store_url(scheme + text)
    except ConfigError:
        return
    if not (url.username or url.password or url.topology is Topology.SINGLE):
        assert parse_store_url(str(url)) == url, "what is shown without credentials means the same"


NAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True)
NODES = st.builds(Node, NAMES, st.integers(1, 65535))


@settings(max_examples=200)
@given(
    topology=st.sampled_from([Topology.SENTINEL, Topology.CLUSTER]),
    nodes=st.lists(NODES, min_size=1, max_size=5),
    tls=st.booleans(),
    database=st.integers(0, 99),
    service=NAMES,
)
def test_an_address_of_many_hosts_says_what_it_means(
    topology: Topology, nodes: list[Node], tls: bool, database: int, service: str
) -> None:
    sentinel = topology is Topology.SENTINEL
    url = StoreUrl(
        scheme="valkey",
        topology=topology,
        nodes=tuple(nodes),
        service=service if sentinel else "",
        tls=tls,
        database=database if sentinel else 0,
    )

    assert parse_store_url(str(url)) == url


@pytest.mark.parametrize(
    "bad",
    [{"deadline_s": 0}, {"failures": 0}, {"cool_down_s": 61}, {"url": "x://"}, {"compress_over": -1}],
)
def test_settings_are_checked_when_made(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"store\."):
        StoreSettings(**bad)  # type: ignore[arg-type]

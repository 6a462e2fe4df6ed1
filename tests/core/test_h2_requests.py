"""Heads of requests: what is sound is taken apart, what is not is named and never repaired."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.h2_requests import RequestHead, problem_of_fields, problem_of_trailers
from silence_gateway.core.hpack import HeaderPairs

GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/x?y=1")]


def changed(**pseudo: bytes | None) -> HeaderPairs:
    """Return GET with pseudo fields replaced or, by None, left out."""
    found = [(name, pseudo.get(name[1:].decode(), value)) for name, value in GET]
    return [(name, value) for name, value in found if value is not None]


def test_a_sound_head_is_taken_apart() -> None:
    head = RequestHead([*GET, (b"te", b"trailers"), (b"content-length", b"12"), (b"x-a", b"b c")])

    assert head.malformed == ""
    assert (head.method, head.scheme, head.authority, head.path) == (
        b"GET",
        b"https",
        b"a.example",
        b"/x?y=1",
    )
    assert head.content_length == 12


@pytest.mark.parametrize(
    ("pairs", "complaint"),
    [
        pytest.param(changed(method=None), ":method", id="no-method"),
        pytest.param(changed(method=b"GE T"), ":method", id="method-of-two-words"),
        pytest.param(changed(scheme=None), ":scheme", id="no-scheme"),
        pytest.param(changed(scheme=b"1"), ":scheme", id="scheme-that-is-none"),
        pytest.param(changed(path=None), ":path", id="no-path"),
        pytest.param(changed(path=b""), ":path", id="empty-path"),
        pytest.param(changed(path=b"x"), ":path", id="path-without-slash"),
        pytest.param(changed(path=b"/a b"), ":path", id="path-with-space"),
        pytest.param(changed(path=b"*"), ":path", id="star-without-options"),
        pytest.param(changed(authority=b"me@a.example"), ":authority", id="user-in-authority"),
        pytest.param(changed(authority=b"a\r\nb"), ":authority", id="line-break-in-authority"),
        pytest.param([GET[0], *GET], "two ':method'", id="twice"),
        pytest.param([*GET, (b":status", b"200")], "':status'", id="pseudo-of-answers"),
        pytest.param([*GET[:2], (b"x", b"y"), *GET[2:]], ":path", id="pseudo-after-fields"),
        pytest.param([*GET, (b"X-A", b"b")], "'X-A'", id="upper-case"),
        pytest.param([*GET, (b"", b"b")], "''", id="empty-name"),
        pytest.param([*GET, (b"a b", b"c")], "'a b'", id="space-in-name"),
        pytest.param([*GET, (b"a", b"b\r\nc: d")], "'a'", id="line-break-in-value"),
        pytest.param([*GET, (b"a", b"b\0")], "'a'", id="nul-in-value"),
        pytest.param([*GET, (b"a", b" b")], "'a'", id="space-before-value"),
        pytest.param([*GET, (b"a", b"b\t")], "'a'", id="tab-after-value"),
        pytest.param([*GET, (b"connection", b"close")], "'connection'", id="connection"),
        pytest.param([*GET, (b"transfer-encoding", b"chunked")], "'transfer-encoding'", id="chunked"),
        pytest.param([*GET, (b"upgrade", b"h2c")], "'upgrade'", id="upgrade"),
        pytest.param([*GET, (b"te", b"gzip")], "te", id="te-not-trailers"),
        pytest.param([*GET, (b"host", b"b.example")], "host", id="host-disagrees"),
        pytest.param([*changed(authority=None), (b"host", b"a b")], "host", id="host-that-is-none"),
        pytest.param([*GET, (b"content-length", b"-1")], "content-length", id="negative-length"),
        pytest.param([*GET, (b"content-length", b"9" * 40)], "content-length", id="endless-length"),
        pytest.param(
            [*GET, (b"content-length", b"1"), (b"content-length", b"2")], "content-length", id="two-lengths"
        ),
        pytest.param([(b":method", b"CONNECT")], "CONNECT", id="connect-to-nobody"),
        pytest.param(changed(method=b"CONNECT"), "CONNECT", id="connect-with-path"),
    ],
)
def test_a_broken_head_is_named(pairs: HeaderPairs, complaint: str) -> None:
    assert complaint in RequestHead(pairs).malformed


@pytest.mark.parametrize(
    "pairs",
    [
        pytest.param(changed(method=b"OPTIONS", path=b"*"), id="options-star"),
        pytest.param([(b":method", b"CONNECT"), (b":authority", b"a:1")], id="connect"),
        pytest.param([*GET, (b"host", b"A.example")], id="host-agrees"),
        pytest.param([*GET, (b"content-length", b"3"), (b"content-length", b"3")], id="same-length-twice"),
        pytest.param([*GET, (b"a", b""), (b"b", b"\xff x")], id="empty-value-and-bytes"),
    ],
)
def test_what_is_unusual_but_sound_passes(pairs: HeaderPairs) -> None:
    assert RequestHead(pairs).malformed == ""


def test_host_stands_in_for_authority() -> None:
    head = RequestHead([*changed(authority=None), (b"host", b"b.example")])

    assert (head.malformed, head.authority) == ("", b"b.example")


names = st.one_of(
    st.sampled_from([b"a", b":path", b"te", b"content-length", b"X", b""]), st.binary(max_size=4)
)


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(names, st.binary(max_size=6)), max_size=6))
def test_no_list_of_fields_makes_it_raise(pairs: HeaderPairs) -> None:
    head = RequestHead([*GET, *pairs])

    if not head.malformed:
        for name, value in pairs:
            assert name.lower() == name
            assert value == value.strip(b" \t")
            assert not set(value) & {0, 10, 13}


def test_trailers_have_neither_pseudo_fields_nor_those_of_connections() -> None:
    assert problem_of_trailers([(b"a", b"b")]) == problem_of_fields([]) == ""
    assert problem_of_trailers([(b":path", b"/")])
    assert problem_of_trailers([(b"connection", b"close")])

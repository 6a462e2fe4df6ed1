"""The corpus of smuggling and other malice, through llhttp and our own rules together."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from silence_gateway.core.http_head import Rejected
from silence_gateway.edge import heads as heads_module
from silence_gateway.edge.heads import HeadReader, check_beginning

GET = b"GET / HTTP/1.1\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
HOST = b"Host: x\r\n"

CORPUS = [
    ("both-lengths", POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
    ("both-lengths-turned", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
    ("two-equal-lengths", POST + b"Content-Length: 3\r\nContent-Length: 3\r\n", 400),
    ("two-lengths", POST + b"Content-Length: 3\r\nContent-Length: 4\r\n", 400),
    ("length-list", POST + b"Content-Length: 3, 3\r\n", 400),
    ("length-plus", POST + b"Content-Length: +3\r\n", 400),
    ("length-minus", POST + b"Content-Length: -3\r\n", 400),
    ("length-hex", POST + b"Content-Length: 0x3\r\n", 400),
    ("length-underscore", POST + b"Content-Length: 1_0\r\n", 400),
    ("length-empty", POST + b"Content-Length:\r\n", 400),
    ("length-huge", POST + b"Content-Length: 99999999999999999999999\r\n", 400),
    ("length-19-digits", POST + b"Content-Length: 1000000000000000000\r\n", 400),
    ("length-arabic", POST + b"Content-Length: \xd9\xa3\r\n", 400),
    ("coding-gzip-first", POST + b"Transfer-Encoding: gzip, chunked\r\n", 400),
    ("coding-chunked-first", POST + b"Transfer-Encoding: chunked, identity\r\n", 400),
    ("coding-identity", POST + b"Transfer-Encoding: identity\r\n", 400),
    ("coding-twice", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
    ("coding-comma", POST + b"Transfer-Encoding: ,chunked\r\n", 400),
    ("coding-parameter", POST + b"Transfer-Encoding: chunked;q=1\r\n", 400),
    ("coding-x", POST + b"Transfer-Encoding: xchunked\r\n", 400),
    ("coding-vertical-tab", POST + b"Transfer-Encoding: \x0bchunked\r\n", 400),
    ("coding-unicode", POST + b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n", 400),
    ("coding-empty", POST + b"Transfer-Encoding:\r\n", 400),
    ("coding-http-1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
    ("folded", GET + HOST + b"A: b\r\n c\r\n", 400),
    ("folded-tab", GET + HOST + b"A: b\r\n\tc\r\n", 400),
    ("folded-first", GET + b" A: b\r\n" + HOST, 400),
    ("folded-empty", GET + HOST + b"A:\r\n b\r\n", 400),
    ("bare-lf", GET + b"Host: x\nA: b\r\n", 400),
    ("bare-lf-line", b"GET / HTTP/1.1\nHost: x\r\n", 400),
    ("bare-cr", GET + b"Host: x\rA: b\r\n", 400),
    ("cr-cr-lf", GET + b"Host: x\r\r\n", 400),
    ("nul-value", GET + HOST + b"A: b\0c\r\n", 400),
    ("control-value", GET + HOST + b"A: b\x01c\r\n", 400),
    ("delete-value", GET + HOST + b"A: b\x7fc\r\n", 400),
    ("space-before-colon", GET + HOST + b"A : b\r\n", 400),
    ("tab-before-colon", GET + HOST + b"A\t: b\r\n", 400),
    ("space-in-name", GET + HOST + b"A B: b\r\n", 400),
    ("no-colon", GET + HOST + b"A\r\n", 400),
    ("no-name", GET + HOST + b": b\r\n", 400),
    ("name-not-ascii", GET + HOST + b"\xc3\xa9: b\r\n", 400),
    ("name-with-bracket", GET + HOST + b"A[]: b\r\n", 400),
    ("nul-name", GET + HOST + b"A\0: b\r\n", 400),
    ("no-host", GET + b"A: b\r\n", 400),
    ("two-hosts", GET + HOST + HOST, 400),
    ("host-list", GET + b"Host: a, b\r\n", 400),
    ("host-empty", GET + b"Host:\r\n", 400),
    ("host-path", GET + b"Host: a/?x=\r\n", 400),
    ("host-user", GET + b"Host: a@b\r\n", 400),
    ("host-long", GET + b"Host: " + b"a" * 300 + b"\r\n", 400),
    ("other-host", b"GET http://y/ HTTP/1.1\r\n" + HOST, 400),
    ("other-port", b"GET http://x:81/ HTTP/1.1\r\n" + HOST, 400),
    ("target-user", b"GET http://u@x/ HTTP/1.1\r\n" + HOST, 400),
    ("target-no-authority", b"GET http:///x HTTP/1.1\r\n" + HOST, 400),
    ("target-ftp", b"GET ftp://x/ HTTP/1.1\r\n" + HOST, 400),
    ("target-asterisk", b"GET * HTTP/1.1\r\n" + HOST, 400),
    ("target-word", b"GET a HTTP/1.1\r\n" + HOST, 400),
    ("target-backslash", b"GET /a\\b HTTP/1.1\r\n" + HOST, 400),
    ("target-fragment", b"GET /a#b HTTP/1.1\r\n" + HOST, 400),
    ("target-not-ascii", b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST, 400),
    ("target-nul", b"GET /\0 HTTP/1.1\r\n" + HOST, 400),
    ("target-tab", b"GET /a\tb HTTP/1.1\r\n" + HOST, 400),
    ("target-space", b"GET /a b HTTP/1.1\r\n" + HOST, 400),
    ("two-spaces", b"GET  / HTTP/1.1\r\n" + HOST, 400),
    ("two-spaces-before-version", b"GET /  HTTP/1.1\r\n" + HOST, 400),
    ("space-after-version", b"GET / HTTP/1.1 \r\n" + HOST, 400),
    ("space-first", b" GET / HTTP/1.1\r\n" + HOST, 400),
    ("tab-in-line", b"GET\t/ HTTP/1.1\r\n" + HOST, 400),
    ("no-version", b"GET /\r\n" + HOST, 400),
    ("lower-case-version", b"GET / http/1.1\r\n" + HOST, 400),
    ("rtsp", b"GET / RTSP/1.0\r\n" + HOST, 400),
    ("long-version", b"GET / HTTP/1.10\r\n" + HOST, 400),
    ("http-0.9", b"GET / HTTP/0.9\r\n" + HOST, 505),
    ("http-1.2", b"GET / HTTP/1.2\r\n" + HOST, 505),
    ("http-2-preface", b"PRI * HTTP/2.0\r\n", 505),
    ("lower-case-method", b"get / HTTP/1.1\r\n" + HOST, 400),
    ("method-not-known", b"BREW / HTTP/1.1\r\n" + HOST, 501),
    ("method-beginning-like-one", b"GETX / HTTP/1.1\r\n" + HOST, 501),
    ("connect", b"CONNECT x:80 HTTP/1.1\r\n" + HOST, 405),
    ("trace", b"TRACE / HTTP/1.1\r\n" + HOST, 405),
    ("expect-more", POST + b"Content-Length: 1\r\nExpect: 200-ok\r\n", 417),
]


@pytest.mark.parametrize(("head", "status"), [pytest.param(h, s, id=i) for i, h, s in CORPUS])
def test_the_corpus_is_refused_and_the_next_head_is_read(head: bytes, status: int) -> None:
    reader = HeadReader()

    with pytest.raises(Rejected) as refused:
        reader.read(head + b"\r\n")

    assert refused.value.status == status
    assert refused.value.reason
    assert reader.read(GET + HOST + b"\r\n").request.target == "/"


GOOD = [
    GET + HOST,
    b"GET / HTTP/1.0\r\n",
    POST + b"Content-Length: 3\r\n",
    POST + b"Transfer-Encoding: chunked\r\n",
    GET + HOST + b"Connection: close\r\n",
    GET + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    GET + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    GET + HOST + b"A: \xe9 \r\n",
    b'PROPFIND /%zz//..;a=b?{|}^`"<> HTTP/1.1\r\n' + HOST,
]


@given(st.lists(st.sampled_from([*GOOD, *(head for _, head, _ in CORPUS)]), max_size=6))
def test_one_reader_serves_all_whatever_came_before(heads: list[bytes]) -> None:
    """The parser is shared by all connections: nothing may be left in it."""
    reader = HeadReader()
    for head in heads:
        try:
            accepted = reader.read(head + b"\r\n") is not None
        except Rejected:
            accepted = False

        assert accepted == (head in GOOD)


@given(
    st.lists(
        st.sampled_from([b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"Host:", b"x", b"\n", b"\0", b"_", b":"])
    )
)
@example([])
def test_a_head_of_any_bytes_is_read_or_refused(pieces: list[bytes]) -> None:
    head = b"".join(pieces).split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    said = None
    status = 0
    try:
        said = HeadReader().read(head)
    except Rejected as refused:
        status = refused.status

    assert said is not None or 400 <= status <= 505
    if said is not None:
        assert head.startswith(said.request.method.encode() + b" ")
        assert b"\r\n" not in b"".join(said.request.headers.values())


@given(st.binary(min_size=1, max_size=200))
def test_a_beginning_that_cannot_become_a_head_is_not_waited_for(data: bytes) -> None:
    hopeless = not b"A" <= data[:1] <= b"Z" or b"\0" in data or b"\n" in data.replace(b"\r\n", b"")
    try:
        check_beginning(data, 1000)
    except Rejected:
        assert hopeless
    else:
        assert not hopeless


LINES = st.sampled_from(
    [line for _, head, _ in CORPUS for line in head.split(b"\r\n")[1:] if line]
    + [
        b"Host: x",
        b"host:x",
        b"Content-Length: 3",
        b"content-length:4",
        b"Transfer-Encoding: chunked",
        b"Connection: close",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"X_Under: y",
        b"Cookie: a=b",
        b"Cookie: c=d",
    ]
)
REQUEST_LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST / HTTP/1.1",
        b"GET / HTTP/1.0",
        b"GET http://x/ HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
    ]
)
HEADS = st.builds(
    lambda first, lines: b"\r\n".join([first, *lines, b"", b""]), REQUEST_LINES, st.lists(LINES, max_size=5)
)


def outcome(reader: HeadReader, head: bytes) -> tuple[object, ...]:
    """Return all that *reader* says about *head*; why it refuses one may be said by either check."""
    try:
        found = reader.read(head)
    except Rejected as error:
        return ("refused", error.status)
    request = found.request
    said = (request.method, request.target, request.http_version, list(request.headers.items()))
    flags = (found.keep_alive, found.body_size, found.expects_continue, found.wants_websocket, found.dropped)
    return (*said, *flags)


@given(st.lists(HEADS, min_size=2, max_size=30))
def test_lines_remembered_change_no_answer(heads: list[bytes]) -> None:
    """What a reader says about a head does not depend on the heads before it."""
    reader = HeadReader()
    for line in {line for head in heads for line in head.split(b"\r\n")[1:-2]}:
        with contextlib.suppress(Rejected):
            reader.read(b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
    for head in heads:
        assert outcome(reader, head) == outcome(HeadReader(), head)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends other lines each time does not make us remember all of them."""
    monkeypatch.setattr(heads_module, "MAX_REMEMBERED", 10)
    reader = HeadReader()
    for number in range(100):
        head = reader.read(
            b"GET /%d HTTP/1.1\r\nHost: x\r\nA: %d\r\nB: %b\r\n\r\n" % (number, number, b"b" * 600)
        )
        assert head.request.headers[b"a"] == b"%d" % number
        assert head.request.path == f"/{number}"

    assert len(reader.request_lines) <= 10
    assert len(reader.fields) <= 10
    assert not any(len(line) > 512 for line in reader.fields)

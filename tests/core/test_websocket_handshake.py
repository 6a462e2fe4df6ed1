"""Who may open a WebSocket, as far as the protocol goes."""

from __future__ import annotations

import pytest

from silence_gateway.core.http import Request
from silence_gateway.core.http_head import Rejected
from silence_gateway.core.websocket_handshake import (
    accept_headers,
    accept_key,
    asks_for_websocket,
    check_handshake,
)

HEADERS = {
    b"host": b"x",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ==",
}


def asking(method: str = "GET", version: str = "1.1", **headers: bytes) -> Request:
    changed = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Request(method, "/ws", HEADERS | changed, http_version=version)


def test_the_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("protocols", [b"", b"centrifuge-json", b"a, b"])
def test_a_right_handshake_passes(protocols: bytes) -> None:
    check_handshake(asking(sec_websocket_protocol=protocols), 0)


@pytest.mark.parametrize(
    ("request_", "body_size", "status"),
    [
        pytest.param(asking(method="POST"), 0, 400, id="post"),
        pytest.param(asking(version="1.0"), 0, 400, id="http-1.0"),
        pytest.param(asking(), 3, 400, id="body"),
        pytest.param(asking(sec_websocket_version=b"8"), 0, 426, id="old-version"),
        pytest.param(asking(sec_websocket_key=b"short"), 0, 400, id="key"),
        pytest.param(asking(sec_websocket_key=b"dGhlIHNhbXBsZSBub25jZS=="), 0, 400, id="key-with-spare-bits"),
        pytest.param(asking(sec_websocket_protocol=b"\xc3\xa9"), 0, 400, id="protocol-not-ascii"),
    ],
)
def test_a_wrong_handshake_is_refused(request_: Request, body_size: int, status: int) -> None:
    with pytest.raises(Rejected) as refused:
        check_handshake(request_, body_size)

    assert refused.value.status == status
    assert (status == 426) == ((b"sec-websocket-version", b"13") in refused.value.headers)


def test_the_answer_names_the_subprotocol_if_there_is_one() -> None:
    assert accept_headers(asking(), "p")[-1] == (b"sec-websocket-protocol", b"p")
    assert len(accept_headers(asking(), "")) == 3


@pytest.mark.parametrize(
    ("headers", "asks"),
    [
        ({b"upgrade": b"WebSocket", b"connection": b"keep-alive, Upgrade"}, True),
        ({b"upgrade": b"h2c", b"connection": b"Upgrade"}, False),
        ({b"upgrade": b"websocket", b"connection": b"keep-alive"}, False),
        ({b"upgrade": b"websocket"}, False),
        ({b"connection": b"upgrade"}, False),
    ],
)
def test_who_asks_for_a_websocket(headers: dict[bytes, bytes], asks: bool) -> None:
    assert asks_for_websocket(Request("GET", "/", headers)) is asks

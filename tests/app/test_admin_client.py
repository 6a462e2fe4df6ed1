"""Asking the admin API: bounded, and clear about what went wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from silence_gateway.app.admin_client import AdminClient, AdminUnreachable, WrongAdminUrl

if TYPE_CHECKING:
    from tests.app.conftest import ScriptedAdmin


def client(url: str, token: str = "", timeout_s: float = 5.0) -> AdminClient:
    return AdminClient(url, token, timeout_s)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_an_answer_is_json_and_the_token_travels_in_its_header(admin: ScriptedAdmin) -> None:
    admin.answers["GET /api/v1/nodes"] = (200, b'[{"id": "a"}]')

    assert client(admin.url, "t0ken").ask_json("GET", "/api/v1/nodes") == [{"id": "a"}]
    assert admin.asked == [("GET /api/v1/nodes", "Bearer t0ken")]
    assert "t0ken" not in repr(client(admin.url, "t0ken"))


@pytest.mark.parametrize(
    ("status", "body", "part"),
    [
        (401, b"{}", "wants the admin token: give --token or SILENCE_ADMIN_TOKEN"),
        (503, b'{"error": "the store is away"}', "answers 503: the store is away"),
        (500, b"{}", "answers 500: no reason given"),
        (200, b"<html>", "does not answer in JSON"),
        (200, b"", "does not answer in JSON: is it the admin listener"),
        (404, b"", "does not answer in JSON: is it the admin listener"),
        (302, b"", "answers 302 and leads elsewhere: name the admin listener"),
        (401, b"", "wants the admin token"),
    ],
)
def test_a_refusal_is_told_in_words(admin: ScriptedAdmin, status: int, body: bytes, part: str) -> None:
    admin.answers["GET /x"] = (status, body)

    with pytest.raises(AdminUnreachable, match=part):
        client(admin.url).ask_json("GET", "/x")


def test_a_wrong_token_is_told_from_a_missing_one(admin: ScriptedAdmin) -> None:
    admin.answers["GET /x"] = (401, b"{}")

    with pytest.raises(AdminUnreachable, match="does not take this token"):
        client(admin.url, "stale").ask_json("GET", "/x")


def test_nothing_listening_says_what_to_look_at(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()

    with pytest.raises(AdminUnreachable, match=r"nothing listens at .*: is the gateway running"):
        client(f"http://127.0.0.1:{port}").ask("GET", "/")


def test_silence_is_waited_for_only_so_long(listener: socket.socket) -> None:
    with pytest.raises(AdminUnreachable, match=r"did not answer within 0\.05 s"):
        client(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05).ask("GET", "/")


def test_something_that_is_not_http_is_named(listener: socket.socket) -> None:
    def talk() -> None:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"SSH-2.0-hello\r\n")

    thread = threading.Thread(target=talk)
    thread.start()
    with pytest.raises(AdminUnreachable, match="does not answer in HTTP"):
        client(f"http://127.0.0.1:{listener.getsockname()[1]}").ask("GET", "/")
    thread.join()


def test_a_unix_socket_is_an_address_too(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def talk() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready")

        thread = threading.Thread(target=talk)
        thread.start()
        assert client(f"unix:{path}").ask("GET", "/readyz") == (200, b"ready")
        thread.join()


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h:port", "http://h/path", "", "http://[::1"])
def test_what_is_no_admin_url_is_refused(url: str) -> None:
    with pytest.raises(WrongAdminUrl, match=r"write http://127\.0\.0\.1:9900"):
        client(url).ask("GET", "/")


def test_a_token_that_no_header_can_carry_is_refused_without_showing_it(admin: ScriptedAdmin) -> None:
    with pytest.raises(WrongAdminUrl) as caught:
        client(admin.url, "bad\r\ntoken").ask("GET", "/")

    assert "bad" not in str(caught.value)

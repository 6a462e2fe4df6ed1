"""How the gateway can be reached: TLS, unix sockets, and who may use the admin listener."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from tests.system.wire import Wire, get
from tests.system.yard import Cafe, Gateway, Yard, until

pytestmark = pytest.mark.system

TOKEN = "sixteen-characters-and-more"
OPEN = """
listen: ["@listen@", "unix:%s"]
admin: {listen: "@admin@"}
store: {url: "memory://"}
trusted_proxies: [192.0.2.1/32]
upstreams: {cafe: {endpoints: ["%s"]}}
"""
SECURE = """
listen: "@listen@"
tls: {certificate: %s, key: %s, client_ca: %s}
admin: {listen: "@admin@", token: "${ADMIN_TOKEN}"}
store: {url: "memory://"}
server: {header_timeout: 500ms}
upstreams: {cafe: {endpoints: ["%s"]}}
"""


@dataclass
class Secure:
    """A gateway that speaks TLS with clients it knows."""

    gateway: Gateway
    authority: trustme.CA

    def context(self, *, known: bool = True) -> ssl.SSLContext:
        """Return what a client needs; one that is not *known* has no certificate of its own."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        if known:
            self.authority.issue_cert("client@example.com").configure_cert(context)
        return context

    def ask(self, context: ssl.SSLContext, method: str = "GET") -> tuple[int, bytes, str]:
        """Send one request; return status, body and the version of TLS."""
        connection = http.client.HTTPSConnection("localhost", self.gateway.port, timeout=10, context=context)
        try:
            connection.request(method, "/v1/drinks/latte")
            response = connection.getresponse()
            assert isinstance(connection.sock, ssl.SSLSocket)
            return response.status, response.read(), connection.sock.version() or ""
        finally:
            connection.close()


@pytest.fixture(scope="module")
def secure(shared_yard: Yard, cafe: Cafe) -> Secure:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    folder = shared_yard.folder
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    paths = (folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    gateway = shared_yard.gateway(SECURE % (*paths, cafe.address), env={"ADMIN_TOKEN": TOKEN})
    return Secure(gateway, authority)


@pytest.fixture(scope="module")
def unix_path(shared_yard: Yard) -> Path:
    return shared_yard.folder / "gateway.sock"


@pytest.fixture(scope="module")
def plain(shared_yard: Yard, cafe: Cafe, unix_path: Path) -> Gateway:
    return shared_yard.gateway(OPEN % (unix_path, cafe.address))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_over_tls(secure: Secure, version: ssl.TLSVersion) -> None:
    context = secure.context()
    context.minimum_version = context.maximum_version = version

    status, body, spoken = secure.ask(context)

    assert status == 200
    assert json.loads(body)["name"] == "latte"
    assert spoken == version.name.replace("_", ".")


def test_a_stream_over_tls_comes_piece_by_piece(secure: Secure) -> None:
    with (
        socket.create_connection(("127.0.0.1", secure.gateway.port), 10) as plain_socket,
        secure.context().wrap_socket(plain_socket, server_hostname="localhost") as wrapped,
    ):
        wrapped.sendall(get("/v1/orders/tea-S1:watch?events=100", "Accept: application/x-ndjson"))
        heard = b""
        while b'"step":2' not in heard:
            data = wrapped.recv(65_536)
            assert data
            heard += data

    assert b'"step":1' in heard
    assert b'"step":9' not in heard


def test_a_client_without_a_certificate_is_not_let_in(secure: Secure) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secure.ask(secure.context(known=False))


def test_whoever_is_not_speaking_tls_is_sent_away(secure: Secure) -> None:
    with Wire(secure.gateway.port) as wire:
        wire.send(get("/v1/drinks/latte"))
        assert b"200 OK" not in wire.rest()
    with Wire(secure.gateway.port) as wire:
        assert wire.rest() == b""  # said nothing: the handshake has the time of a head
    assert secure.ask(secure.context())[0] == 200


def test_the_admin_api_wants_its_token(secure: Secure) -> None:
    gateway = secure.gateway
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        for path in ("/metrics", "/api/v1/config", "/", "/api/v1/nowhere"):
            assert gateway.admin("GET", path, headers).status == 401
    assert gateway.admin("POST", "/api/v1/drain").status == 401
    assert gateway.admin("GET", "/api/v1/config").headers["www-authenticate"] == "Bearer"
    for path in ("/livez", "/readyz", "/healthz"):
        assert gateway.admin("GET", path).status == 200

    right = {"Authorization": f"Bearer {TOKEN}", "Host": "gateway.example.com"}
    metrics = gateway.admin("GET", "/metrics", right)
    assert metrics.status == 200
    assert b"silence_admin_refused_total 14\n" in metrics.body
    shown = gateway.admin("GET", "/api/v1/config", right).body
    assert TOKEN.encode() not in shown


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9900"}, 200),
        ({"Host": "[::1]:9900"}, 200),
        ({"Host": "evil.example.com"}, 403),
        ({"Host": "127.0.0.1.evil.example.com:9900"}, 403),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_no_page_in_a_browser_can_use_an_open_admin_api(
    plain: Gateway, headers: dict[str, str], status: int
) -> None:
    """A name that resolves to this machine, or a form on somebody's page, is not an operator."""
    assert plain.admin("GET", "/api/v1/stats", headers).status == status
    assert plain.admin("PUT", "/api/v1/access/deny/203.0.113.1", headers).status == status
    assert plain.admin("GET", "/metrics", headers).status == status


def over_unix(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(path))
        client.sendall(request)
        heard = b""
        while data := client.recv(65_536):
            heard += data
        return heard


def test_requests_over_a_unix_socket(plain: Gateway, unix_path: Path) -> None:
    """Whoever may open it is a proxy of ours: where any are trusted, what it says of its client counts."""
    answer = over_unix(
        unix_path,
        get(
            "/v1/drinks/latte", "X-Forwarded-For: 198.51.100.5", "X-Request-Id: by-unix", "Connection: close"
        ),
    )

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    until(lambda: '"by-unix"' in plain.output(), "the line of the request is in the log")
    line = next(json.loads(line) for line in plain.output().splitlines() if '"by-unix"' in line)
    assert line["client_ip"] == "198.51.100.5"
    assert plain.ask("GET", "/v1/drinks/latte").status == 200


def test_a_unix_socket_that_a_crash_left_is_replaced_and_a_living_one_is_not(yard: Yard, cafe: Cafe) -> None:
    path = yard.folder / "a.sock"
    first = yard.gateway(OPEN % (path, cafe.address))
    first.signal(signal.SIGKILL)
    first.wait()
    assert path.exists()

    yard.gateway(OPEN % (path, cafe.address))
    assert over_unix(path, get("/v1/drinks/tea", "Connection: close")).startswith(b"HTTP/1.1 200 ")
    third = yard.gateway(OPEN % (path, cafe.address), wait=False)
    assert third.wait() == 1
    assert "in use" in third.output()
    assert over_unix(path, get("/v1/drinks/tea", "Connection: close")).startswith(b"HTTP/1.1 200 ")

"""`silence register` where things are encrypted: the store it writes to, and the service it checks."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tests.stores.certificates import Authority
from tests.system.test_register import CONFIG, becomes, known, registered
from tests.system.yard import Cafe, Gateway, Yard, until

from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
GRPC = ("--check", "grpc", "--check-every", "100ms")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@contextmanager
def encrypted(context: ssl.SSLContext) -> Iterator[tuple[str, str]]:
    """Start a store; yields its address with TLS, and in clear."""
    with ValkeyServer() as server, FaultProxy(server.socket, tls=context) as proxy:
        yield proxy.url.replace("valkey://", "valkeys://"), server.url


class Checked:
    """A grpcio server with TLS that says about its health what it is told to."""

    def __init__(self, authority: Authority, name: str, *, mutual: bool) -> None:
        made = authority.own.issue_cert(name)
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        credentials = grpc.ssl_server_credentials(
            [(made.private_key_pem.bytes(), chain)],
            root_certificates=authority.own.cert_pem.bytes() if mutual else None,
            require_client_auth=mutual,
        )
        self.health = health.HealthServicer()
        self.health.set("", SERVING)
        self.server = grpc.server(ThreadPoolExecutor(8))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{port}"
        self.server.start()


@pytest.fixture
def services() -> Iterator[Any]:
    started: list[Checked] = []

    def start(authority: Authority, name: str = "127.0.0.1", *, mutual: bool = False) -> Checked:
        started.append(Checked(authority, name, mutual=mutual))
        return started[-1]

    yield start
    for one in started:
        one.server.stop(0).wait()


@pytest.fixture
def plain_store() -> Iterator[str]:
    with ValkeyServer() as server:
        yield server.url


def in_registry(gateway: Gateway, cafe: Cafe) -> list[str]:
    return [address for address in known(gateway) if address != cafe.address]


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual-tls"])
def test_a_service_registers_in_a_store_that_speaks_tls(
    yard: Yard, authority: Authority, *, mutual: bool
) -> None:
    fleet, cafe = fresh_fleet(), yard.cafe("one")
    options = ["--store-ca", str(authority.ca)]
    if mutual:
        certificate, key = authority.client()
        options += ["--store-certificate", str(certificate), "--store-key", str(key)]
    with encrypted(authority.server(clients=authority if mutual else None)) as (secure, clear):
        registered(yard, secure, fleet, cafe.address, options=tuple(options))
        becomes(yard.gateway(CONFIG % (fleet, clear)), cafe)


@pytest.mark.parametrize(
    ("own", "says"), [(False, "name the authority that signed"), (True, "asks for a certificate of ours")]
)
def test_a_store_that_does_not_accept_us_or_that_we_do_not_trust_is_told_of(
    yard: Yard, authority: Authority, tmp_path: Path, *, own: bool, says: str
) -> None:
    trusted = authority if own else Authority(tmp_path / "theirs")
    with encrypted(authority.server(clients=authority)) as (secure, _):
        asked = registered(yard, secure, "edge", "127.0.0.1:1", options=("--store-ca", str(trusted.ca)))
        until(lambda: says in asked.output(), asked.output)
        assert "is registered" not in asked.output()


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual-tls"])
def test_a_service_that_speaks_tls_is_checked_withdrawn_and_brought_back(
    yard: Yard, plain_store: str, authority: Authority, services: Any, *, mutual: bool
) -> None:
    fleet, service = fresh_fleet(), services(authority, mutual=mutual)
    options = ["--check-ca", str(authority.ca)]
    if mutual:
        certificate, key = authority.client()
        options += ["--check-certificate", str(certificate), "--check-key", str(key)]
    # With a replica that is always there, so that the gateway can start.
    cafe = yard.cafe("always")
    joined = CONFIG.replace("{registry: cafe}", f"[{cafe.address}, {{registry: cafe}}]")
    gateway = yard.gateway(joined % (fleet, plain_store))
    log = registered(yard, plain_store, fleet, service.address, options=(*GRPC, *options))
    until(lambda: in_registry(gateway, cafe) == [service.address], log.output)

    service.health.set("", NOT_SERVING)
    until(lambda: in_registry(gateway, cafe) == [], log.output)
    assert "NOT_SERVING" in log.output()
    service.health.set("", SERVING)
    until(lambda: in_registry(gateway, cafe) == [service.address], log.output)


def test_a_service_whose_certificate_holds_another_name_is_checked_by_that_name(
    yard: Yard, plain_store: str, authority: Authority, services: Any
) -> None:
    service = services(authority, "mail.test")
    ca = ("--check-ca", str(authority.ca))
    wrong = registered(yard, plain_store, "edge", service.address, options=(*GRPC, *ca))
    until(lambda: "certificate is not valid for" in wrong.output(), wrong.output)
    right = registered(
        yard, plain_store, "edge", service.address, options=(*GRPC, *ca, "--check-server-name", "mail.test")
    )
    until(lambda: "is registered" in right.output(), right.output)
    assert "is registered" not in wrong.output()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(("--check-tls",), "CERTIFICATE_VERIFY_FAILED", id="the-systems-authorities"),
        pytest.param((), "does it want TLS?", id="in-clear"),
    ],
)
def test_a_check_that_cannot_succeed_says_why(
    yard: Yard,
    plain_store: str,
    authority: Authority,
    services: Any,
    options: tuple[str, ...],
    says: str,
) -> None:
    service = services(authority)
    log = registered(yard, plain_store, "edge", service.address, options=(*GRPC, *options))

    until(lambda: says in log.output(), log.output)
    assert "is not well yet" in log.output()
    assert "is registered" not in log.output()


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--check-tls",), 2, "add --check grpc, http or tcp"),
        ((*GRPC, "--check-certificate", __file__), 1, "certificate and key go together"),
        ((*GRPC, "--check-ca", __file__), 1, "must be PEM"),
    ],
    ids=["no-check", "half-a-pair", "no-certificate"],
)
def test_tls_options_that_make_no_sense_are_said_at_once(
    yard: Yard, options: tuple[str, ...], code: int, says: str
) -> None:
    done = registered(yard, "valkey://127.0.0.1:1", "edge", "127.0.0.1:1", options=options)

    assert done.wait() == code
    assert says in done.output()

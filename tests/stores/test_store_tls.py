"""Whom a store trusts, wherever it is; what it says about whom it does not; and files that are renewed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.stores.certificates import Authority
from tests.stores.places import Place

from silence_gateway.errors import StoreFault, StoreMisconfigured
from silence_gateway.events import Event, StoreLost
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.tls import TlsSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.store_checks import eventually

pytestmark = pytest.mark.valkey

ECHO = Script("echo", "return ARGV[1]")


@contextmanager
def presenting(where: Place, context: ssl.SSLContext) -> Iterator[None]:
    """All servers and sentinels answer new connections with another certificate."""
    before = [proxy.tls for proxy in where.proxies]
    for proxy in where.proxies:
        proxy.tls = context
    try:
        yield
    finally:
        for proxy, own in zip(where.proxies, before, strict=True):
            proxy.tls = own


def settings(where: Place, tls: TlsSettings) -> StoreSettings:
    return replace(where.settings(tls=True), tls=tls)


async def works(store: ValkeyStore, fleet: str) -> bool:
    """Whether a script runs, in a cluster on every shard."""
    try:
        said = [await store.scripts.run(ECHO, [f"{fleet}:{number}".encode()], [b"x"]) for number in range(20)]
    except StoreFault:
        return False
    return said == [b"x"] * 20


async def check_works(wanted: StoreSettings, fleet: str) -> None:
    store = ValkeyStore(wanted, fleet)
    await store.start()
    try:
        assert await works(store, fleet)
    finally:
        await store.stop()


async def check_refused(wanted: StoreSettings, fleet: str, remedy: str) -> None:
    """The store is not used, and both the log and whoever calls are told what to do."""
    events: list[Event] = []
    store = ValkeyStore(wanted, fleet, observer=events.append)
    await store.start()
    try:
        await eventually(
            lambda: any(isinstance(event, StoreLost) and remedy in event.reason for event in events),
            f"the log says: {remedy}",
        )
        assert not store.up
        with pytest.raises(StoreMisconfigured, match=remedy):
            await store.scripts.run(ECHO, [b"key"], [b"x"])
        assert len([event for event in events if isinstance(event, StoreLost)]) == 1, "once"
    finally:
        await store.stop()


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        pytest.param("name", "use an address that its certificate holds", id="wrong-name"),
        pytest.param("expired", "renew its certificate", id="expired"),
        pytest.param("authority", "name the authority that signed its certificate", id="unknown-authority"),
        pytest.param("client", "it asks for a certificate of ours", id="none-of-ours"),
    ],
)
def test_what_is_not_trusted_is_refused_with_what_to_do(
    where: Place, fleet: str, tmp_path: Path, fault: str, remedy: str
) -> None:
    authority = where.authority
    contexts = {
        "name": lambda: authority.server("elsewhere.test"),
        "expired": lambda: authority.server(expired=True),
        "authority": lambda: Authority(tmp_path).server(),
        "client": lambda: authority.server(clients=authority),
    }
    with presenting(where, contexts[fault]()):
        asyncio.run(check_refused(settings(where, TlsSettings(ca=authority.ca)), fleet, remedy))


def test_a_certificate_of_somebody_else_is_not_accepted(where: Place, fleet: str, tmp_path: Path) -> None:
    authority = where.authority
    certificate, key = Authority(tmp_path).client()
    with presenting(where, authority.server(clients=authority)):
        tls = TlsSettings(ca=authority.ca, certificate=certificate, key=key)
        asyncio.run(check_refused(settings(where, tls), fleet, "check who signed store.tls.certificate"))


def test_a_store_that_asks_for_our_certificate_gets_it(where: Place, fleet: str) -> None:
    authority = where.authority
    certificate, key = authority.client()
    with presenting(where, authority.server(clients=authority)):
        tls = TlsSettings(ca=authority.ca, certificate=certificate, key=key)
        asyncio.run(check_works(settings(where, tls), fleet))


def test_certificates_that_hold_another_name_can_be_expected(where: Place, fleet: str) -> None:
    """As in a cluster whose nodes tell each other's addresses, and whose certificates hold one name."""
    authority = where.authority
    with presenting(where, authority.server("store.test")):
        tls = TlsSettings(ca=authority.ca, server_name="store.test")
        asyncio.run(check_works(settings(where, tls), fleet))


def test_an_unverified_store_is_used_where_that_was_asked_for(
    where: Place, fleet: str, tmp_path: Path
) -> None:
    with presenting(where, Authority(tmp_path).server("elsewhere.test", expired=True)):
        asyncio.run(check_works(settings(where, TlsSettings(verify=False)), fleet))


def test_renewed_files_are_read_when_a_connection_is_made_anew(
    where: Place, fleet: str, tmp_path: Path
) -> None:
    """Authority, certificate and key are all replaced while connections stand; then those are cut."""
    old, new = where.authority, Authority(tmp_path / "new")
    ca, certificate, key = (tmp_path / name for name in ("ca.pem", "own.pem", "own.key"))

    def write(authority: Authority) -> None:
        for path, source in zip((ca, certificate, key), (authority.ca, *authority.client()), strict=True):
            path.write_bytes(source.read_bytes())

    async def scenario() -> None:
        tls = TlsSettings(ca=ca, certificate=certificate, key=key)
        store = ValkeyStore(settings(where, tls), fleet)
        await store.start()
        try:
            assert await works(store, fleet)
            write(new)
            with presenting(where, new.server(clients=new)):
                assert await works(store, fleet), "connections that stand are left alone"
                for proxy in where.proxies:
                    await asyncio.to_thread(proxy.reset)
                await recovers(store, fleet)
                assert store.dialer.tls is not None
                assert store.dialer.tls.loads == 2
        finally:
            await store.stop()

    write(old)
    with presenting(where, old.server(clients=old)):
        asyncio.run(scenario())


async def recovers(store: ValkeyStore, fleet: str) -> None:
    """Return once the store works again."""
    for _ in range(250):
        if await works(store, fleet):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the store works again")

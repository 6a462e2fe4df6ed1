"""The Valkey bus: a connection that dies or goes deaf is noticed, and nobody's gap is silent."""

from __future__ import annotations

import asyncio

import pytest
from tests.stores.shards import only

from silence_gateway.stores import bus as bus_file
from silence_gateway.stores.client import Wire
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.store_checks import eventually
from silence_gateway.testing.valkey import ValkeyServer

pytestmark = pytest.mark.valkey


def test_a_cut_connection_is_a_gap_and_then_messages_flow_again(valkey: ValkeyServer, fleet: str) -> None:
    async def scenario() -> None:
        with FaultProxy(valkey.socket) as proxy:
            store = ValkeyStore(proxy.url, fleet)
            await store.start()
            try:
                heard: list[bytes] = []
                gaps: list[int] = []
                store.bus.subscribe("news", heard.append, lambda: gaps.append(1))
                await store.bus.ready("news")
                assert gaps == [], "a first subscription is no gap"
                await eventually(lambda: all(lane.connected for lane in only(store).lanes), "all lanes stand")

                proxy.reset()

                await eventually(lambda: gaps == [1], "the listener is told")
                await eventually(lambda: store.up, "the lanes are back as well")
                await store.bus.publish("news", b"again")
                await eventually(lambda: heard == [b"again"], "and hears again")
            finally:
                await store.stop()

    asyncio.run(scenario())


def test_a_deaf_connection_is_replaced(
    valkey: ValkeyServer, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_file, "PROBE_S", 0.1)

    async def scenario() -> None:
        with FaultProxy(valkey.socket) as proxy:
            store = ValkeyStore(valkey.url, fleet)
            through_proxy = ValkeyStore(proxy.url, fleet)
            store.valkey_bus.open_wire = through_proxy.open_subscriber  # only the bus can be stalled
            await store.start()
            try:
                gaps: list[int] = []
                heard: list[bytes] = []
                store.bus.subscribe("news", heard.append, lambda: gaps.append(1))
                await store.bus.ready("news")

                proxy.stall_to_client = True
                await eventually(lambda: store.valkey_bus.restarts >= 1, "deafness is noticed")
                assert store.up, "the store itself is well"
                proxy.heal()

                await eventually(lambda: len(gaps) == 1, "the gap is told")
                await store.bus.publish("news", b"1")
                await eventually(lambda: heard == [b"1"], "messages flow again")
            finally:
                await store.stop()

    asyncio.run(scenario())


def test_a_server_that_forgot_our_subscriptions_is_asked_again(
    valkey: ValkeyServer, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_file, "PROBE_S", 0.05)

    async def scenario() -> None:
        store = ValkeyStore(valkey.url, fleet)
        await store.start()
        try:
            gaps: list[int] = []
            store.bus.subscribe("news", lambda _payload: None, lambda: gaps.append(1))
            await store.bus.ready("news")
            wire = store.valkey_bus.wire
            assert wire is not None
            wire.on_reply = lambda _reply: None
            wire.write(b"*1\r\n$11\r\nUNSUBSCRIBE\r\n")

            await eventually(lambda: gaps == [1], "a lost subscription is found out")
        finally:
            await store.stop()

    asyncio.run(scenario())


class Tap(Wire):
    """Keeps what is written to a wire, and writes it."""

    __slots__ = ("wire", "writes")

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.wire = wire
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.wire.write(data)

    def close(self, reason: str) -> None:
        self.wire.close(reason)


def test_subscribing_and_leaving_in_one_tick_costs_one_write_each(valkey: ValkeyServer, fleet: str) -> None:
    async def scenario() -> None:
        store = ValkeyStore(valkey.url, fleet)
        await store.start()
        try:
            await store.bus.ready(store.valkey_bus.own)
            wire = store.valkey_bus.wire
            assert wire is not None
            tap = Tap(wire)
            store.valkey_bus.wire = tap
            kept = [store.bus.subscribe(f"c{number}", lambda _payload: None) for number in range(600)]
            for number in range(600):
                store.bus.subscribe(f"c{number}", lambda _payload: None).close()
            gone = store.bus.subscribe("gone", lambda _payload: None)
            gone.close()
            await store.bus.ready("c599")
            for subscription in kept:
                subscription.close()
            await eventually(lambda: len(store.valkey_bus.channels) == 1, "only our own channel is left")

            assert len(tap.writes) == 2
            assert b"gone" not in tap.writes[0]
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_a_listener_that_fails_takes_nobody_down(valkey: ValkeyServer, fleet: str) -> None:
    async def scenario() -> None:
        reported: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: reported.append(str(context["exception"]))
        )
        store = ValkeyStore(valkey.url, fleet)
        await store.start()
        try:
            heard: list[bytes] = []

            def fails(_payload: bytes) -> None:
                raise RuntimeError("a bug of the listener")

            store.bus.subscribe("news", fails)
            store.bus.subscribe("news", heard.append)
            await store.bus.ready("news")
            await store.bus.publish("news", b"1")
            await eventually(lambda: heard == [b"1"], "the next listener hears")
            assert reported == ["a bug of the listener"]
        finally:
            await store.stop()

    asyncio.run(scenario())

"""Who tells the audit what every instance sees."""

from __future__ import annotations

import asyncio

from silence_gateway.limiting.access_audit import EVERY_S, AuditDuty
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle


def test_one_instance_has_the_duty_and_another_takes_it_over() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        duties = [AuditDuty(MemoryStore(hub).board, clock) for _ in range(3)]
        for duty in duties:
            duty.start()
            duty.start()
        await settle()
        assert [duty.ours for duty in duties] == [True, False, False]

        await clock.advance(10 * EVERY_S)
        assert [duty.ours for duty in duties] == [True, False, False]
        await duties[0].stop()
        await duties[0].stop()
        await clock.advance(2 * EVERY_S)
        assert sum(duty.ours for duty in duties[1:]) == 1

    asyncio.run(scenario())


def test_while_the_store_is_away_everybody_tells() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        duties = [AuditDuty(MemoryStore(hub).board, clock) for _ in range(2)]
        for duty in duties:
            duty.start()
        await settle()
        hub.go_away()
        await clock.advance(EVERY_S)
        assert all(duty.ours for duty in duties)

        hub.come_back()
        await clock.advance(3 * EVERY_S)
        assert sum(duty.ours for duty in duties) == 1

    asyncio.run(scenario())

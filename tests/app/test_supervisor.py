"""The supervisor keeps every slot filled, with growing pauses, until it is told to stop."""

import asyncio

from silence_gateway.app.supervisor import FIRST_PAUSE_S, Supervisor
from silence_gateway.clock import SystemClock
from silence_gateway.events import Event, Noticed


class FakeWorker:
    """A process that ends when told to, or never."""

    def __init__(self, pid: int, *, stubborn: bool = False) -> None:
        self.pid = pid
        self.stubborn = stubborn
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def die(self, status: int = 1) -> None:
        if not self.ended.done():
            self.ended.set_result(status)

    def terminate(self) -> None:
        if not self.stubborn:
            self.die(0)

    def kill(self) -> None:
        self.die(-9)


class Yard:
    """Makes workers and lets a test wait for the next one."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.made: asyncio.Queue[tuple[int, FakeWorker]] = asyncio.Queue()
        self.stubborn = stubborn
        self.count = 0
        self.events: list[Event] = []

    async def spawn(self, slot: int) -> FakeWorker:
        self.count += 1
        worker = FakeWorker(1000 + self.count, stubborn=self.stubborn)
        self.made.put_nowait((slot, worker))
        return worker

    async def next(self) -> tuple[int, FakeWorker]:
        async with asyncio.timeout(5):
            return await self.made.get()


def supervisor(yard: Yard, count: int, drain_s: float = 5.0) -> Supervisor:
    return Supervisor(count, yard.spawn, drain_s=drain_s, clock=SystemClock(), observer=yard.events.append)


def test_a_worker_that_dies_is_replaced_in_its_own_slot() -> None:
    async def scenario() -> None:
        yard = Yard()
        keeper = supervisor(yard, 2)
        keeper.start()
        first = dict([await yard.next(), await yard.next()])

        first[1].die(3)
        slot, replacement = await yard.next()

        assert slot == 1
        assert replacement is not first[1]
        assert set(keeper.workers) == {0, 1}
        assert keeper.workers[0] is first[0]
        assert any("status 3" in event.what for event in yard.events if isinstance(event, Noticed))
        assert await keeper.stop()

    asyncio.run(scenario())


def test_a_worker_that_keeps_dying_is_restarted_with_a_growing_pause() -> None:
    async def scenario() -> None:
        yard = Yard()
        keeper = supervisor(yard, 1)
        keeper.start()
        for _ in range(3):
            _, worker = await yard.next()
            worker.die()
        await yard.next()

        pauses = [event.what.rsplit(" ", 2)[1] for event in yard.events if isinstance(event, Noticed)]
        assert [float(pause) for pause in pauses] == [FIRST_PAUSE_S, FIRST_PAUSE_S * 2, FIRST_PAUSE_S * 4]
        assert await keeper.stop()

    asyncio.run(scenario())


def test_stopping_ends_every_worker_and_starts_none() -> None:
    async def scenario() -> None:
        yard = Yard()
        keeper = supervisor(yard, 3)
        keeper.start()
        for _ in range(3):
            await yard.next()

        assert await keeper.stop()

        assert keeper.workers == {}
        assert yard.count == 3

    asyncio.run(scenario())


def test_a_worker_that_does_not_drain_is_killed() -> None:
    async def scenario() -> None:
        yard = Yard(stubborn=True)
        keeper = supervisor(yard, 1, drain_s=-1.9)
        keeper.start()
        _, worker = await yard.next()

        assert not await keeper.stop()

        assert worker.ended.result() == -9

    asyncio.run(scenario())

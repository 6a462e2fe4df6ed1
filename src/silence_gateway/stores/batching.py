"""
Many callers, one connection: all calls of one loop tick leave in one write.

Hot path: 4.1 us of our CPU per small script call at 64 concurrent callers (`bench/store_calls.py`; through
redis-py's client 43 us). The rules that make it safe:

* Replies come in the order of the commands, so a caller who leaves abandons its future and nothing else.
* A call that missed its deadline fails; the connection stays. A connection that owes answers and says
  nothing for `silence_s` is closed, and everything on it fails as "may have run".
* Nothing that may have run is sent again. A script the server did not know has not run: only such an
  entry is replayed, behind one SCRIPT LOAD.
* The queue is bounded; a full one fails at once.

Nothing here decides when to stop asking the store: it reports to a `Watcher`, and obeys `refusal`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core.store_failover import Fault, fault_of_reply
from silence_gateway.errors import StoreFault, StoreMisconfigured, StoreUnavailable
from silence_gateway.stores.calls import Awaited, Call, LoadedScript, Posted, ScriptBook, Watcher, stopped
from silence_gateway.stores.client import ReplyError, StoreRefused, Wire, fault_error, pack
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.lane_counts import LaneCounts
from silence_gateway.stores.lateness import Lateness, Silence

# Calls waiting or unanswered on one connection. At the deadline of 25 ms this is 400,000 calls a second:
# a longer queue only holds calls that nobody waits for any more.
CAPACITY = 10_000
# A script that vanishes again between its load and its call is loaded again, but not for ever.
MAX_REPLAYS = 4
ASKING = pack((b"ASKING",))

Redirect: TypeAlias = "Callable[[Pipeline, Call, str, float], bool]"
"""Given the lane that a call was sent on, the call, the error reply, and when the call is late (seconds)."""


async def at_once() -> None:
    """A lane that may connect whenever it likes."""


class Pipeline:
    """
    A lane to the store: one connection, kept open, and everything that travels on it.

    It is a `ScriptRunner`.

    Args:
        open_wire: Makes a connection, or raises StoreRefused.
        clock: When calls are late and connections silent.
        watcher: Who is told how calls went.
        deadline_s: How long a call may take.
        silence_s: How long a connection that owes answers may say nothing.
        capacity: Calls that may wait or be unanswered.
        turn: Returns when this lane may make a new connection; meanwhile its calls fail at once.
        redirect: Takes over a call that the server says is another's; returns whether it did.
        counts: Where to count what this lane does; its own if not given.

    Attributes:
        refusal: While set, every call fails at once with what it returns.
    """

    def __init__(
        self,
        open_wire: Callable[[], Awaitable[Wire]],
        clock: Clock,
        watcher: Watcher,
        *,
        deadline_s: float,
        silence_s: float,
        capacity: int = CAPACITY,
        turn: Callable[[], Awaitable[None]] = at_once,
        redirect: Redirect | None = None,
        counts: LaneCounts | None = None,
    ) -> None:
        self.open_wire = open_wire
        self.turn = turn
        self.redirect = redirect
        self.waits_for_turn = False
        self.refused_for = ""  # why there is no connection and will be none soon
        self.lost_for = ""  # why the last connection ended
        self.clock = clock
        self.watcher = watcher
        self.deadline_s = deadline_s
        self.silence_s = silence_s
        self.capacity = capacity
        self.refusal: Callable[[], StoreFault] | None = None
        self.wire: Wire | None = None
        self.connecting: asyncio.Task[bool] | None = None
        self.stopped = False
        self.book = ScriptBook()
        self.queue: list[Call] = []
        self.unsent: list[Call] = []
        # Whose replies come next; None for one that nobody waits for.
        self.owed: deque[Call | LoadedScript | None] = deque()
        self.counts = counts or LaneCounts()
        self.lateness = Lateness(clock, deadline_s, watcher, self.counts, self.on_expired)
        self.silence = Silence(clock, silence_s, lambda: bool(self.owed))

    # -- asking ---------------------------------------------------------------------------------------

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> asyncio.Future[Any]:
        """Run *script* atomically; see `ScriptRunner`."""
        loaded = self.book.find(script)
        return self.awaited(pack((b"EVALSHA", loaded.sha, len(keys), *keys, *args)), loaded)

    def post(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[bytes | int],
        on_answer: Callable[[Any], None],
        on_failure: Callable[[StoreFault], None],
    ) -> None:
        """Run *script* now, with all that waits for the end of this tick; see `ScriptRunner`."""
        loaded = self.book.find(script)
        packed = pack((b"EVALSHA", loaded.sha, len(keys), *keys, *args))
        if self.enter(Posted(packed, loaded, on_answer, on_failure)):
            self.flush()

    def post_together(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[bytes | int],
        on_answer: Callable[[Any], None],
        on_failure: Callable[[StoreFault], None],
    ) -> None:
        """Run *script* as `post` does, but at the end of this tick, in one write with all that waits."""
        loaded = self.book.find(script)
        packed = pack((b"EVALSHA", loaded.sha, len(keys), *keys, *args))
        if self.enter(Posted(packed, loaded, on_answer, on_failure)) and len(self.queue) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def call(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """Send a plain command; raises as `run` does."""
        return self.awaited(pack(command), None)

    def awaited(self, packed: bytes, script: LoadedScript | None) -> asyncio.Future[Any]:
        """Queue one command for the end of this loop tick."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        if self.enter(Awaited(packed, script, done)) and len(self.queue) == 1:
            loop.call_soon(self.flush)
        return done

    def enter(self, call: Call) -> bool:
        """Queue *call*; False, and it has failed, where that makes no sense."""
        if self.refusal is not None:
            call.fail(self.refusal())
            return False
        if self.waits_for_turn and self.wire is None:
            if self.refused_for:
                self.watcher.call_failed(Fault.UNREACHABLE, self.refused_for)
            call.fail(StoreUnavailable("the connection to the store is about to be made anew", sent=False))
            return False
        if len(self.queue) + len(self.unsent) + len(self.owed) >= self.capacity:
            self.counts.overflowed += 1
            call.fail(StoreUnavailable(f"{self.capacity} calls wait for the store already", sent=False))
            return False
        self.queue.append(call)
        return True

    # -- sending --------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what this loop tick has gathered."""
        calls = [call for call in self.queue if not call.gone()]
        self.queue.clear()
        if not calls:
            return
        counts = self.counts
        counts.calls += len(calls)
        counts.batches += 1
        self.lateness.begin(calls)
        if self.wire is not None and not self.wire.paused and not self.unsent:
            self.send(calls)
            return
        self.unsent += calls
        if self.wire is None:
            self.start_connecting()

    def send(self, calls: list[Call]) -> None:
        """Write *calls*, each missing script before the first call that needs it."""
        assert self.wire is not None
        parts: list[bytes] = []
        owed, on_server = self.owed, self.book.on_server
        batch = calls[0].batch
        if batch is not None:
            batch.sent = True
        for call in calls:
            script = call.script
            if script is not None and script.sha not in on_server:
                owed.append(script)
                parts.append(self.book.load(script))
                self.counts.loads += 1
            if call.asking:
                # It holds for the next command only, so nothing may come between the two.
                owed.append(None)
                parts.append(ASKING)
            owed.append(call)
            parts.append(call.packed)
        self.wire.write(b"".join(parts))

    def send_unsent(self) -> None:
        """The connection takes more: send what has waited and is still wanted."""
        if self.wire is None or self.wire.paused or not self.unsent:
            return
        calls = [call for call in self.unsent if not call.gone()]
        self.unsent.clear()
        for call in calls:
            # They come from several ticks; `send` marks the batch of the first.
            if call.batch is not None:
                call.batch.sent = True
        if calls:
            self.send(calls)

    def readmit(self, call: Call, due_s: float) -> None:
        """Send a call that another server has turned away, at once."""
        if call.gone() or not self.enter(call):
            return
        self.queue.pop()
        self.lateness.join(call, due_s)
        if self.wire is not None and not self.wire.paused and not self.unsent:
            self.send([call])
            return
        self.unsent.append(call)
        if self.wire is None:
            self.start_connecting()

    # -- hearing --------------------------------------------------------------------------------------

    def on_reply(self, reply: Any) -> None:
        """Match one reply with the call that is owed it."""
        if not self.owed:
            assert self.wire is not None
            self.wire.close("the server sent a reply that nobody asked for")
            return
        call = self.owed.popleft()
        if call is None:
            return
        if call.__class__ is LoadedScript:
            call.loading -= 1
            call.error = str(reply) if isinstance(reply, ReplyError) else ""
            return
        assert isinstance(call, Call)
        if reply.__class__ is ReplyError:
            self.on_error(call, str(reply))
            return
        batch = call.batch
        if batch is not None:
            batch.left -= 1
            if not batch.left:
                self.counts.latency.add(self.clock.monotonic_s() - batch.due_s + self.deadline_s)
                self.watcher.call_succeeded()
        call.answer(reply)

    def on_error(self, call: Call, text: str) -> None:
        """An error reply: replay a script that was missing, fail anything else."""
        fault = fault_of_reply(text)
        script = call.script
        missing = fault is Fault.SCRIPT_MISSING and script is not None and not script.error
        if missing and script is not None and call.replays < MAX_REPLAYS and not call.gone():
            call.replays += 1
            # Unless a load is on its way already, one goes in front of the replayed call.
            if not script.loading:
                self.book.on_server.discard(script.sha)
            self.send([call])
            return
        due_s = self.clock.monotonic_s() + self.deadline_s
        if call.batch is not None:
            due_s = call.batch.due_s
            call.leave_batch()
        if fault is Fault.MOVED and self.redirect is not None and not call.gone():
            # It has certainly not run, so it may be asked again, elsewhere.
            self.watcher.call_succeeded()
            if self.redirect(self, call, text, due_s):
                return
        name = f"script {script.name}: " if script is not None else ""
        if script is not None and script.error:
            call.fail(StoreMisconfigured(f"{name}{script.error}"))
        elif fault is Fault.SCRIPT_MISSING:
            call.fail(StoreUnavailable(f"{name}the server forgets it as soon as it is loaded"))
        else:
            call.fail(fault_error(fault, f"{name}{text}"))
            self.watcher.call_failed(fault, text)
            if fault is Fault.WRONG_ROLE and self.wire is not None:
                # What we reached is no primary: do not stay with it.
                self.wire.close(text)

    def on_expired(self) -> None:
        """Calls were late: forget those that were never sent, and see whether the connection still speaks."""
        self.unsent = [call for call in self.unsent if not call.gone()]
        if self.owed and self.wire is not None:
            self.silence.watch(self.wire, max(0.001, self.silence_s - self.deadline_s))

    # -- connecting -----------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether there is an open connection."""
        return self.wire is not None

    def start_connecting(self) -> asyncio.Task[bool] | None:
        """One attempt at a time; None when stopped."""
        if self.stopped:
            return None
        if self.connecting is None:
            self.connecting = asyncio.get_running_loop().create_task(self.connect_once())
        return self.connecting

    async def connect(self) -> bool:
        """Have a connection if that is possible now; cancelling leaves the attempt to others."""
        if self.wire is not None:
            return True
        attempt = self.start_connecting()
        return attempt is not None and await asyncio.shield(attempt)

    async def connect_once(self) -> bool:
        """Open the connection; report and fail what waits when that does not work."""
        try:
            self.waits_for_turn = True
            timer = self.clock.call_later(self.deadline_s, self.on_far_turn)
            try:
                await self.turn()
            finally:
                timer.cancel()
                self.waits_for_turn = False
            wire = await self.open_wire()
        except StoreRefused as exc:
            self.refused_for = str(exc)
            waiting, self.unsent = self.unsent, []
            for call in waiting:
                self.give_up(call, fault_error(exc.fault, str(exc), sent=False))
            self.watcher.call_failed(exc.fault, str(exc))
            return False
        finally:
            self.connecting = None
        self.counts.connects += 1
        self.refused_for = ""
        self.wire = wire
        wire.on_reply, wire.on_lost, wire.on_resume = self.on_reply, self.on_lost, self.send_unsent
        again = self.book.begin_anew()  # a restarted server has forgotten them
        if again:
            self.owed.extend(again)
            self.counts.loads += len(again)
            wire.write(b"".join(script.load for script in again))
        self.send_unsent()
        return True

    def on_far_turn(self) -> None:
        """Several were lost within a second: calls that find none now speak against the server."""
        if self.lost_for and not self.refused_for:
            self.refused_for = f"lost again and again: {self.lost_for}"

    def on_lost(self, reason: str) -> None:
        """The connection broke: what was on it may or may not have run."""
        self.wire = None
        self.lost_for = reason
        self.silence.end()
        lost, self.owed = self.owed, deque()
        for call in lost:
            if isinstance(call, Call):
                self.give_up(call, StoreUnavailable(f"{reason}; the call may have run"))
        if self.stopped:
            return
        if lost:
            self.watcher.call_failed(Fault.UNREACHABLE, reason)
        if self.refusal is None:
            self.start_connecting()

    def give_up(self, call: Call, error: StoreFault) -> None:
        """Fail one call outside the usual order of replies."""
        call.leave_batch()
        call.fail(error)

    async def stop(self) -> None:
        """Close the connection and fail whatever waits."""
        self.stopped = True
        self.refusal = stopped
        self.lateness.stop()
        self.silence.end()
        if self.connecting is not None:
            self.connecting.cancel()
            await asyncio.gather(self.connecting, return_exceptions=True)
            self.connecting = None
        if self.wire is not None:
            self.wire.close("this store was stopped")
        for call in self.queue + self.unsent:
            call.fail(stopped())
        self.queue.clear()
        self.unsent.clear()

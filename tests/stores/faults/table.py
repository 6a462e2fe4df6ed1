"""
What may happen to a store: each fault is how it begins and how it ends, and what is expected of it.

Everything here blocks and is called off the event loop. `docs/reliability.md` has a row for each.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import hiredis
from tests.stores.faults.grounds import (
    USER,
    Clustered,
    Single,
    SteppedClock,
    SteppedServer,
    Watched,
    lower_priority,
    single_on_another_clock,
)

from silence_gateway.clock import Clock
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.testing.valkey_cluster import until

LOADED_KEYS = 300
LOAD_KEY_US = 6000
MOVED = (0, 99)


class Ground(Protocol):
    """Where a fault happens."""

    clock: Clock

    def settings(self, deadline_s: float) -> StoreSettings:
        """Return how a store gets here."""

    def close(self) -> None:
        """End everything."""


G = TypeVar("G", bound=Ground)


def nothing(_ground: Any) -> None:
    """There is nothing to do."""


def whole(_ground: Any) -> Sequence[tuple[int, int]]:
    """Every slot is hit."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Fault(Generic[G]):
    """
    One row.

    Attributes:
        name: What the page calls it.
        ground: Makes where it happens.
        begin: Breaks it.
        end: Mends it.
        meanwhile: Runs in a thread until the fault ends.
        healthy: Returns when the store, by itself, could serve everybody again.
        opens: Whether the breaker opens; None where it may.
        slots: The slots that are hit, of a cluster; all if empty.
        focus: Slots that half of all keys are put in.
        failover: Whether another server takes over, which is allowed three seconds.
        needs_another_clock: Whether a server's clock is stepped.
    """

    name: str
    ground: Callable[[], G]
    begin: Callable[[G], None] = nothing
    end: Callable[[G], None] = nothing
    meanwhile: Callable[[G, threading.Event], None] | None = None
    healthy: Callable[[G], None] = nothing
    opens: bool | None = True
    slots: Callable[[G], Sequence[tuple[int, int]]] = whole
    focus: tuple[int, int] | None = None
    failover: bool = False
    needs_another_clock: bool = False


# -- one server ---------------------------------------------------------------------------------------


def kill(ground: Single) -> None:
    ground.server.kill()


def start(ground: Single) -> None:
    ground.server.start()


def stall_towards(ground: Single) -> None:
    ground.proxy.stall_to_server = True


def stall_from(ground: Single) -> None:
    ground.proxy.stall_to_client = True


def heal(ground: Single) -> None:
    ground.proxy.heal()


def slow(latency_s: float) -> Callable[[Single], None]:
    def begin(ground: Single) -> None:
        ground.proxy.latency_s = latency_s

    return begin


def reset_now_and_then(ground: Single, over: threading.Event) -> None:
    while True:
        ground.proxy.reset_at_answer(1)
        if over.wait(0.3):
            return


def restart_with_much_to_load(ground: Single) -> None:
    """A restart that reads a data set slowly: whoever asks meanwhile hears LOADING."""
    server = ground.server
    with server.line() as line:
        for number in range(LOADED_KEYS):
            line.call("SET", f"ballast:{number}", "x" * 1000, "PX", 3_600_000)
        line.call("SAVE")
    server.kill()
    server.process.options += (
        *("--key-load-delay", str(LOAD_KEY_US), "--loading-process-events-interval-bytes", "1024"),
    )
    server.start()


def loaded(ground: Single) -> None:
    def answers() -> bool:
        with contextlib.suppress(hiredis.ReplyError, OSError):
            return bool(ground.server.call("PING") == b"PONG")
        return False

    until(answers, "it is loaded")


def demote(ground: Single) -> None:
    ground.server.call("REPLICAOF", "127.0.0.1", 1)


def promote(ground: Single) -> None:
    ground.server.call("REPLICAOF", "NO", "ONE")


def flush_scripts(ground: Single, over: threading.Event) -> None:
    with ground.server.line() as line:
        while not over.wait(0.05):
            line.call("SCRIPT", "FLUSH")


def loop_for_ever(ground: Single) -> None:
    lower_priority(ground.server.pid)
    ground.server.call("CONFIG", "SET", "busy-reply-threshold", 100)
    ground.line = ground.server.line()
    ground.line.send("EVAL", "while true do end", 0)


def kill_script(ground: Single) -> None:
    ground.server.call("SCRIPT", "KILL")


def fill_up(ground: Single) -> None:
    ground.server.call("CONFIG", "SET", "maxmemory", 1)


def make_room(ground: Single) -> None:
    ground.server.call("CONFIG", "SET", "maxmemory", 0)


def let_nobody_in(ground: Single) -> None:
    ground.line = ground.server.line()
    ground.line.call("CONFIG", "SET", "maxclients", 1)
    put_out(ground.line)


def put_out(line: Any) -> None:
    """Cut every connection but this one."""
    line.call("CLIENT", "KILL", "USER", USER)


def let_all_in(ground: Single) -> None:
    assert ground.line is not None
    ground.line.call("CONFIG", "SET", "maxclients", 1000)


def change_password(ground: Single) -> None:
    ground.let_in("second")
    with ground.server.line() as line:
        put_out(line)


def write_password(ground: Single) -> None:
    ground.secret.write_text("second")


def remove_user(ground: Single) -> None:
    ground.server.call("ACL", "DELUSER", USER)


def restore_user(ground: Single) -> None:
    ground.let_in(ground.secret.read_text())


def step_server(seconds: int) -> Callable[[Single], None]:
    def begin(ground: Single) -> None:
        assert isinstance(ground.server, SteppedServer)
        ground.server.step(seconds)

    return begin


def step_gateway(seconds: int) -> Callable[[Single], None]:
    def begin(ground: Single) -> None:
        assert isinstance(ground.clock, SteppedClock)
        ground.clock.off_us = seconds * 1_000_000

    return begin


# -- failovers ----------------------------------------------------------------------------------------


def kill_primary(ground: Watched) -> None:
    ground.failed = ground.set.primary
    ground.failed.kill()


def hang_primary(ground: Watched) -> None:
    ground.failed = ground.set.primary
    ground.failed.pause()


def taken_over(ground: Watched) -> None:
    until(
        lambda: (
            ground.set.primary is not ground.failed
            and ground.set.primary.info("replication")["role"] == "master"
        ),
        "the sentinels have chosen another",
    )


def kill_shard(ground: Clustered) -> None:
    ground.failed.kill()


def hang_shard(ground: Clustered) -> None:
    ground.failed.pause()


def slots_of_failed(ground: Clustered) -> Sequence[tuple[int, int]]:
    ground.slots = ground.slots_of_failed()
    return ground.slots


def shard_taken_over(ground: Clustered) -> None:
    others = [node for node in ground.cluster.nodes if node is not ground.failed]
    slot = ground.slots[0][0]

    def served() -> bool:
        """Whether every other node tells of a new primary."""
        for node in others:
            told = node.call("CLUSTER", "SLOTS")
            owner = [primary[1] for first, last, primary, *_ in told if first <= slot <= last]
            if owner in ([], [ground.failed.open_port]) or b"cluster_state:ok" not in node.call(
                "CLUSTER", "INFO"
            ):
                return False
        return True

    until(served, "a replica has taken over")


def move_key_by_key(ground: Clustered, over: threading.Event) -> None:
    """To another primary, slot by slot, and back again."""
    cluster = ground.cluster
    source = cluster.primary_of(MOVED[0])
    target = next(node for node in cluster.nodes[: cluster.primaries] if node is not source)
    while True:
        for slot in range(MOVED[0], MOVED[1] + 1):
            if over.is_set():
                return
            cluster.move_slot(slot, target)
        source, target = target, source


def move_at_once(ground: Clustered, over: threading.Event) -> None:
    """All slots in one go, as Valkey can since 9.0, and back again."""
    cluster = ground.cluster
    source = cluster.primary_of(MOVED[0])
    target = next(node for node in cluster.nodes[: cluster.primaries] if node is not source)
    while not over.wait(0.1):
        cluster.move_slots_at_once(*MOVED, target)
        source, target = target, source


def singles() -> list[Fault[Single]]:
    """Return the faults of one server."""
    step, own = step_server, step_gateway
    at, another = Single, single_on_another_clock
    return [
        Fault(name="connections refused", ground=at, begin=lambda g: g.proxy.refuse(), end=heal),
        Fault(name="killed, and restarted empty", ground=at, begin=kill, end=start),
        Fault(
            name="hung (SIGSTOP)",
            ground=at,
            begin=lambda g: g.server.pause(),
            end=lambda g: g.server.resume(),
        ),
        Fault(name="black hole towards the server", ground=at, begin=stall_towards, end=heal),
        Fault(name="black hole from the server", ground=at, begin=stall_from, end=heal),
        Fault(name="200 ms slow", ground=at, begin=slow(0.2), end=heal),
        Fault(name="2 s slow", ground=at, begin=slow(2.0), end=heal),
        Fault(name="reset in the middle of a reply", ground=at, meanwhile=reset_now_and_then, end=heal),
        Fault(name="`LOADING` after a restart", ground=at, begin=restart_with_much_to_load, healthy=loaded),
        Fault(name="`READONLY`: demoted", ground=at, begin=demote, end=promote),
        Fault(name="`NOSCRIPT`: scripts flushed every 50 ms", ground=at, meanwhile=flush_scripts,
              opens=False),
        Fault(name="`BUSY`: a script that does not end", ground=at, begin=loop_for_ever, end=kill_script),
        Fault(name="`OOM` with noeviction", ground=at, begin=fill_up, end=make_room, opens=False),
        Fault(name="`maxclients` reached", ground=at, begin=let_nobody_in, end=let_all_in),
        Fault(name="password changed without overlap", ground=at, begin=change_password, end=write_password),
        Fault(name="ACL user removed", ground=at, begin=remove_user, end=restore_user),
        Fault(name="the server's clock 5 s forward", ground=another, begin=step(5), end=step(5),
              opens=False, needs_another_clock=True),
        Fault(name="the server's clock 5 s back", ground=another, begin=step(-5), end=step(-5),
              opens=False, needs_another_clock=True),
        Fault(name="our clock 5 s forward", ground=at, begin=own(5), end=own(5), opens=False),
        Fault(name="our clock 5 s back", ground=at, begin=own(-5), end=own(-5), opens=False),
    ]  # fmt: skip


def failovers() -> list[Fault[Watched]]:
    """Return the faults of a primary behind sentinels; the failed one returns afterwards as a replica."""
    return [
        Fault(name="Sentinel: the primary killed", ground=Watched, begin=kill_primary, healthy=taken_over,
              failover=True),
        Fault(name="Sentinel: the primary hung", ground=Watched, begin=hang_primary, healthy=taken_over,
              failover=True),
    ]  # fmt: skip


def shards() -> list[Fault[Clustered]]:
    """Return the faults of a cluster."""
    return [
        Fault(name="Cluster: slots moved key by key", ground=Clustered, meanwhile=move_key_by_key,
              opens=False, focus=MOVED),
        # The server that hands over takes no writes for a moment, which may be longer than a deadline.
        Fault(name="Cluster: slots moved at once", ground=Clustered, meanwhile=move_at_once, opens=None,
              focus=MOVED),
        Fault(name="Cluster: a primary killed", ground=Clustered, begin=kill_shard, slots=slots_of_failed,
              healthy=shard_taken_over, failover=True),
        Fault(name="Cluster: a primary hung", ground=Clustered, begin=hang_shard, slots=slots_of_failed,
              healthy=shard_taken_over, failover=True),
    ]  # fmt: skip


FAULTS: tuple[Fault[Any], ...] = (*singles(), *failovers(), *shards())

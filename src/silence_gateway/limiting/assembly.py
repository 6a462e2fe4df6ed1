"""
How the parts of the limiting engine are joined over a store: the one place that knows their order.

From the caller inwards: exceptions and remembered refusals (`decider.py`), the fallback while the store
is away, leases, and the store's own counting. A memory store needs none of it but the counting.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from silence_gateway.clock import Clock
from silence_gateway.events import Observer, nobody
from silence_gateway.limiting.decider import Decider
from silence_gateway.limiting.holds import Holds
from silence_gateway.limiting.overrides import Overrides
from silence_gateway.limiting.settling import Settling
from silence_gateway.stores.cluster import ClusterLanes
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_cluster import ClusterLimitStore
from silence_gateway.stores.limits_falling_back import FallingBackLimitStore
from silence_gateway.stores.limits_leasing import LeasingLimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.stores.limits_valkey import ValkeyLimitStore
from silence_gateway.stores.open import scripts_of


@dataclass(frozen=True, slots=True)
class LimitEngine:
    """
    The parts of a limiting engine.

    Attributes:
        decider: Whom to ask.
        falling_back: What decides while the store is away; idle where nothing is shared.
        leasing: What holds leases; None where nothing is shared.
        overrides: Exceptions for single keys.
        holds: Places under concurrency limits.
        settling: Derived: costs that are known afterwards.
    """

    decider: Decider
    falling_back: FallingBackLimitStore
    leasing: LeasingLimitStore | None
    overrides: Overrides
    holds: Holds
    store: Store
    settling: Settling = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "settling", Settling(self.decider))

    def start(self) -> None:
        """Hear of the fleet's exceptions and of what is given back; the store has been started."""
        self.overrides.start()
        if self.decider.remembers:
            self.decider.denials.start(self.store.bus)

    async def stop(self) -> None:
        """Give back what is held; the store is still there."""
        await self.settling.stop()
        await self.holds.stop()
        if self.leasing is not None:
            await self.leasing.stop()
        await self.falling_back.stop()
        await self.decider.denials.stop()


def limit_engine(store: Store, fleet: str, clock: Clock, observer: Observer = nobody) -> LimitEngine:
    """Join the parts over *store*; nothing is started."""
    scripts = scripts_of(store)
    cluster = ClusterLimitStore(scripts, fleet) if isinstance(scripts, ClusterLanes) else None
    leasing = None
    shared: LimitStore
    if scripts is None:
        shared = MemoryLimitStore(clock)
    else:
        shared = leasing = LeasingLimitStore(
            cluster or ValkeyLimitStore(scripts, fleet),
            clock,
            instances=lambda: store.live_instances,
            up=lambda: store.up,
        )
    falling_back = FallingBackLimitStore(shared, store, clock, spread=cluster is not None)
    # What is counted in this process is never away.
    asked = shared if scripts is None else falling_back
    overrides = Overrides(store.board, clock, observer)
    decider = Decider(asked, clock, overrides=overrides, remembers=scripts is not None)
    # Another rule may let through what was refused by the old one, and so may uses that were given back.
    overrides.on_changed = decider.denials.clear
    for part in (leasing, cluster):
        if part is not None:
            part.on_returned = decider.denials.forget
    holds = Holds(asked, clock, store.instance_id)
    return LimitEngine(decider, falling_back, leasing, overrides, holds, store)

"""A limiter that needs no store: for tests of whatever stands around one."""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.clock import Clock
from silence_gateway.core.limit_headers import HeaderForm
from silence_gateway.limiting.decider import Decider
from silence_gateway.limiting.holds import Holds
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.testing.clock import FakeClock


def local_limiter(
    specs: Sequence[LimitSpec],
    *,
    clock: Clock | None = None,
    store: LimitStore | None = None,
    form: HeaderForm = HeaderForm.IETF,
) -> Limiter:
    """
    Return a limiter that counts in this process.

    Args:
        specs: Its limits.
        clock: A `FakeClock` by default, so that no time passes by itself.
        store: Where limits are counted instead of in a memory store.
        form: How callers are told.
    """
    clock = clock or FakeClock()
    store = store or MemoryLimitStore(clock)
    return Limiter(specs, Decider(store, clock), Holds(store, clock, "test"), form)

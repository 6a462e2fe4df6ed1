"""What the figures of faults leave out is the machine's, and nothing that the product did."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from tests.stores.faults.runner import Stalls, Waited
from tests.stores.faults.steady import Sent

BLOCKED_S = 0.1


def compute() -> None:
    end_s = time.monotonic() + BLOCKED_S
    while time.monotonic() < end_s:
        pass


def block() -> None:
    time.sleep(BLOCKED_S)


@pytest.mark.parametrize("hold_up", [compute, block])
def test_what_holds_the_loop_up_itself_is_not_left_out(hold_up: Callable[[], None]) -> None:
    """A call that blocks in the kernel, or computes, is found as late as it was."""

    async def scenario() -> tuple[Stalls, Sent, float]:
        stalls = Stalls()
        watching = asyncio.create_task(stalls.watch())
        await asyncio.sleep(0.02)
        before, begun_s = Waited.now(), time.monotonic()
        hold_up()
        await asyncio.sleep(0.02)
        watching.cancel()
        took_s = time.monotonic() - begun_s
        return stalls, Sent(begun_s, took_s, "a", 0, False, True), Waited.now().since_s(before)

    stalls, sent, waited_s = asyncio.run(scenario())

    # A busy machine may have had its part in it, but no more than the kernel says.
    assert stalls.without(sent) >= BLOCKED_S - waited_s - 0.01
    assert stalls.found


def test_the_wait_of_the_own_thread_and_the_longest_of_the_others_is_left_out() -> None:
    """The other one may have had the GIL; and a guest of another machine may have had no CPU at all."""
    own = threading.get_native_id()
    before = Waited({own: 1.0, -1: 2.0, -2: 2.0}, 5.0)
    after = Waited({own: 1.0625, -1: 2.25, -2: 2.5, -3: 0.125}, 5.25)

    waited_s = after.since_s(before)

    assert waited_s == 0.0625 + 0.5 + 0.25

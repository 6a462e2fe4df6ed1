"""
What every limit store must keep, as a function that anyone can run against a store of their own.

Each promise is one function with one message; none may look inside a store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from silence_gateway.core.limits import NEVER, Algorithm, Ask, Change, Decision, LimitRule, Mode, Op
from silence_gateway.core.prospect import Prospect
from silence_gateway.core.rates import Rate
from silence_gateway.stores.limit_contract import LimitStore

WINDOW_S = 0.25
LONG_US = 30 * 86_400 * 1_000_000
"""A window that does not pass, and does not begin anew, while a check runs."""

PassTime = Callable[[float], Awaitable[None]]


def rule_of(
    name: str, count: int, algorithm: Algorithm = Algorithm.SLIDING_WINDOW, mode: Mode = Mode.ENFORCE
) -> LimitRule:
    """Return a rule of *count* per WINDOW_S."""
    return LimitRule(name=name, algorithm=algorithm, rate=Rate(count, round(WINDOW_S * 1_000_000)), mode=mode)


def lasting(name: str, count: int, algorithm: Algorithm, mode: Mode = Mode.ENFORCE) -> LimitRule:
    """Return a rule whose window does not pass while a check runs."""
    return LimitRule(name=name, algorithm=algorithm, rate=Rate(count, LONG_US), mode=mode)


async def check_limit_store(store: LimitStore, pass_time: PassTime) -> None:
    """
    Check any `LimitStore`, at first empty, against the contract.

    Args:
        store: What to check.
        pass_time: Lets that many seconds pass for the store.

    Raises:
        AssertionError: If a promise is broken; the message names it.
    """
    for algorithm in Algorithm:
        if algorithm is Algorithm.CONCURRENCY:
            continue
        await check_counting(store, algorithm)
        await check_concurrent_callers(store, algorithm)
        await check_waiting(store, algorithm, pass_time)
        await check_looking(store, algorithm)
        await check_reset(store, algorithm)
        await check_changes(store, algorithm)
    await check_places(store, pass_time)
    await check_blocks(store, pass_time)
    await check_looking_at_blocks(store, pass_time)
    await check_all_or_nothing(store, pass_time)
    await check_shadow(store)
    await check_keys_stay_apart(store)


async def ask_one(store: LimitStore, rule: LimitRule, key: str, cost: int = 1) -> Decision:
    """Ask one limit."""
    [decision] = await store.decide([Ask(rule, key, cost)])
    return decision


async def check_counting(store: LimitStore, algorithm: Algorithm) -> None:
    """The limit passes, one more does not; looking and refusals spend nothing."""
    rule = lasting(f"count-{algorithm.value}", 5, algorithm)
    first = await ask_one(store, rule, "k", 2)
    assert (first.allowed, first.limit, first.remaining, first.retry_after_us) == (True, 5, 3, 0), (
        "a cost of 2 of 5 leaves 3"
    )
    assert not (await ask_one(store, rule, "k", 4)).allowed, "4 of the 3 left are refused"
    peeked = await ask_one(store, rule, "k", 0)
    assert (peeked.allowed, peeked.remaining) == (True, 3), "refusals and looking spend nothing"
    assert (await ask_one(store, rule, "k", 3)).remaining == 0, "what is left can be spent"
    refused = await ask_one(store, rule, "k")
    assert not refused.allowed, "one more than the limit is refused"
    assert 0 < refused.retry_after_us <= 2 * LONG_US, "a refusal says how long to wait"
    assert refused.reset_us >= refused.retry_after_us, "everything is free no earlier than something"
    never = await ask_one(store, rule, "other", 6)
    assert (never.allowed, never.retry_after_us, never.remaining) == (False, NEVER, 5), (
        "a cost above the limit can never pass"
    )


async def check_concurrent_callers(store: LimitStore, algorithm: Algorithm) -> None:
    """Callers at the same moment never share the last use."""
    rule = lasting(f"race-{algorithm.value}", 20, algorithm)
    decisions = await asyncio.gather(*(ask_one(store, rule, "k") for _ in range(50)))
    left = sorted(decision.remaining for decision in decisions if decision.allowed)
    assert left == list(range(20)), "each of the 20 uses goes to one caller"


async def check_waiting(store: LimitStore, algorithm: Algorithm, pass_time: PassTime) -> None:
    """Waiting as told is enough."""
    rule = rule_of(f"wait-{algorithm.value}", 2, algorithm)
    await ask_one(store, rule, "k", 2)
    refused = await ask_one(store, rule, "k", 2)
    if refused.allowed:
        return  # the machine was too slow to ask twice within the window
    await pass_time(refused.retry_after_us / 1_000_000)
    assert (await ask_one(store, rule, "k", 2)).allowed, "a wait that was obeyed is not refused again"


async def look_at(store: LimitStore, rule: LimitRule, key: str, cost: int = 1) -> Prospect:
    """Look at one limit."""
    [prospect] = await store.look([Ask(rule, key, cost)])
    return prospect


async def check_looking(store: LimitStore, algorithm: Algorithm) -> None:
    """What is told of a request is what it meets, and telling spends nothing."""
    rule = lasting(f"look-{algorithm.value}", 3, algorithm)
    for left in (3, 2, 1):
        told = [await look_at(store, rule, "k", cost) for cost in (0, 1, 3, 4)]
        assert [one.remaining for one in told] == [left] * 4, "looking spends nothing"
        assert [one.passes for one in told] == [True, True, left == 3, False], "what fits would pass"
        assert told[3].retry_after_us == NEVER, "what never fits never passes"
        assert (await ask_one(store, rule, "k")).allowed, "what would pass does"
    told_last, refused = await look_at(store, rule, "k"), await ask_one(store, rule, "k")
    assert (told_last.passes, refused.allowed) == (False, False), "what would be refused is"
    # Time goes on between the two.
    assert 0 <= told_last.retry_after_us - refused.retry_after_us < 60_000_000, "and the wait is the same"


async def check_looking_at_blocks(store: LimitStore, pass_time: PassTime) -> None:
    """Looking begins no block, and tells how long one goes on."""
    block_us = round(WINDOW_S * 1_000_000)
    rule = LimitRule(
        name="block-look", algorithm=Algorithm.FIXED_WINDOW, rate=Rate(1, LONG_US), block_us=block_us
    )
    await ask_one(store, rule, "k")
    told = [await look_at(store, rule, "k") for _ in range(2)][1]
    assert (told.passes, told.blocked_us) == (False, 0), "looking begins no block"
    await ask_one(store, rule, "k")
    blocked = await look_at(store, rule, "k")
    assert 0 < blocked.blocked_us <= block_us, "a block says how long it goes on"
    assert (blocked.remaining, (await look_at(store, rule, "other")).blocked_us) == (0, 0), "for its own key"
    await pass_time(WINDOW_S)
    assert (await look_at(store, rule, "k")).blocked_us == 0, "a block that is over is told no more"


async def check_reset(store: LimitStore, algorithm: Algorithm) -> None:
    """Resetting forgets one key and no other."""
    rule = lasting(f"reset-{algorithm.value}", 1, algorithm)
    await ask_one(store, rule, "a")
    await ask_one(store, rule, "b")
    assert await store.reset(rule, "a"), "a reset says that there was something"
    assert not await store.reset(rule, "a"), "a reset says that there was nothing"
    assert (await ask_one(store, rule, "a")).allowed, "a reset key starts anew"
    assert not (await ask_one(store, rule, "b")).allowed, "a reset leaves other keys alone"


async def check_changes(store: LimitStore, algorithm: Algorithm) -> None:
    """What is charged, taken and given back counts as such."""
    rule = lasting(f"change-{algorithm.value}", 5, algorithm)
    spent = await ask_one(store, rule, "k", 2)
    [charged] = await store.adjust([Change(Op.CHARGE, rule, "k", 2, spent.at_us)])
    assert (charged.amount, charged.used) == (2, 4), "a charge counts beside what was asked for"
    [taken] = await store.adjust([Change(Op.TAKE, rule, "k", 3, spent.at_us)])
    assert (taken.amount, taken.used) == (1, 5), "no more is taken than is left"
    [over] = await store.adjust([Change(Op.CHARGE, rule, "k", 2, spent.at_us)])
    assert (over.amount, over.used) == (2, 7), "a charge may go beyond the limit"
    assert not (await ask_one(store, rule, "k")).allowed, "and then nothing passes"
    [undone] = await store.adjust([Change(Op.GIVE_BACK, rule, "k", 2, spent.at_us)])
    # A bucket has earned a little back meanwhile, which is not given back once more.
    least = 1 if algorithm is Algorithm.TOKEN_BUCKET else 2
    assert least <= undone.amount <= 2, "what still counts is undone"
    assert undone.used == 7 - undone.amount, "and counts no more"
    [looked] = await store.adjust([Change(Op.CHARGE, rule, "nobody", 0, spent.at_us)])
    assert (looked.amount, looked.used, looked.reset_us) == (0, 0, 0), "a charge of nothing looks"
    await store.adjust([Change(Op.GIVE_BACK, rule, "nobody", 3, spent.at_us)])
    assert (await ask_one(store, rule, "nobody", 0)).remaining == 5, "nobody gets back what was never spent"


async def check_places(store: LimitStore, pass_time: PassTime) -> None:
    """No more hold a place than there are, and a place that nobody renews is free after its time."""
    rule = LimitRule(name="places", algorithm=Algorithm.CONCURRENCY, max=2, ttl_us=1_000_000)

    async def enter(holder: str) -> bool:
        [decision] = await store.decide([Ask(rule, "k", 1, holder)])
        return decision.allowed

    assert [await enter(holder) for holder in ("a", "b", "c")] == [True, True, False], "two places are two"
    assert await enter("a"), "a holder keeps the place it has"
    assert (await ask_one(store, rule, "k", 0)).remaining == 0, "looking tells how many are left"
    [left] = await store.adjust([Change(Op.RELEASE, rule, "k", holder="a")])
    assert (left.amount, left.used) == (1, 1), "who is done frees a place"
    assert await enter("c"), "and another may have it"
    await pass_time(0.6)
    await store.adjust([Change(Op.RENEW, rule, "k", holder="b")])
    await pass_time(0.6)
    assert await enter("d"), "a place that nobody renewed is free after its time"
    assert not await enter("e"), "and one that was renewed is not"


async def check_blocks(store: LimitStore, pass_time: PassTime) -> None:
    """A key that was refused stays refused for as long as its limit says, and no longer."""
    rule = LimitRule(
        name="block",
        algorithm=Algorithm.SLIDING_WINDOW,
        rate=Rate(1, 1_000),
        block_us=round(WINDOW_S * 1_000_000),
    )
    while (first := await ask_one(store, rule, "k")).allowed:
        continue  # the second within a millisecond is refused; a slow machine may take some tries
    assert first.retry_after_us == rule.block_us, "the wait is the block's"
    await pass_time(WINDOW_S / 2)
    refused = await ask_one(store, rule, "k")
    assert not refused.allowed, "a block holds when the uses that led to it are over"
    assert refused.retry_after_us <= rule.block_us / 2, "and is not prolonged by asking"
    assert (await ask_one(store, rule, "other")).allowed, "others are not blocked"
    await pass_time(WINDOW_S / 2)
    assert (await ask_one(store, rule, "k")).allowed, "a block ends"


async def check_all_or_nothing(store: LimitStore, pass_time: PassTime) -> None:
    """One refusal keeps every limit of the request from spending, whatever their algorithms."""
    tight = lasting("all-tight", 1, Algorithm.SLIDING_WINDOW)
    wide = lasting("all-wide", 9, Algorithm.TOKEN_BUCKET)
    both = [Ask(wide, "k"), Ask(tight, "k")]
    assert [d.remaining for d in await store.decide(both)] == [8, 0], "both limits spend"
    for _ in range(3):
        wide_says, tight_says = await store.decide(both)
        assert not tight_says.allowed, "the limit that is spent refuses"
        assert (wide_says.allowed, wide_says.remaining) == (True, 8), (
            "the other allows and says what is left with nothing spent"
        )
    requests = await asyncio.gather(
        *(store.decide([Ask(wide, "g"), Ask(tight, f"g{n % 2}")]) for n in range(6))
    )
    passed = [asks for asks in requests if all(decision.allowed for decision in asks)]
    assert len(passed) == 2, "requests of one moment are decided one after the other"
    await pass_time(WINDOW_S / 2)  # in a cluster some had to be given back, and time has gone by till then
    assert (await ask_one(store, wide, "g", 0)).remaining == 7, "and only those that passed have spent"


async def check_shadow(store: LimitStore) -> None:
    """A shadow limit has no vote, and spends only with the others."""
    shadow = lasting("shadow", 2, Algorithm.SLIDING_WINDOW, Mode.SHADOW)
    enforced = lasting("enforced", 3, Algorithm.SLIDING_WINDOW)
    asks = [Ask(shadow, "k"), Ask(enforced, "k")]
    answers = [[decision.allowed for decision in await store.decide(asks)] for _ in range(4)]
    assert answers == [[True, True], [True, True], [False, True], [False, False]], (
        "a shadow limit that refuses stops nobody"
    )
    await store.reset(shadow, "k")
    await store.decide(asks)
    assert (await ask_one(store, shadow, "k", 0)).remaining == 2, (
        "a shadow limit spends nothing on a request that others refused"
    )


async def check_keys_stay_apart(store: LimitStore) -> None:
    """Keys of any text, and limits of any name, never meet."""
    rule = lasting("apart", 1, Algorithm.SLIDING_WINDOW)
    other = lasting("apart.2", 1, Algorithm.SLIDING_WINDOW)
    keys = ["", "a", "A", "a|b", "{a}", "a b", "ü", "\udcff", "x" * 5000, "x" * 5001, "2|a"]
    for key in keys:
        assert (await ask_one(store, rule, key)).allowed, f"{key[:20]!r} counts alone"
        assert (await ask_one(store, other, key)).allowed, "limits count alone"

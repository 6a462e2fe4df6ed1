"""Refusals remembered: what is, for how long, and what ends them early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from silence_gateway.core.limits import NEVER, NOT_ASKED, Algorithm, Ask, Decision, LimitRule, Mode
from silence_gateway.core.rates import parse_rate
from silence_gateway.limiting import denials as denials_file
from silence_gateway.limiting.denials import LONGEST_S, MAX_KEY_CHARS, RETRY_S, Denials, digest_of
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock

RULE = LimitRule(name="l", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/minute"))
OTHER = replace(RULE, name="other")
PLACES = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=2)
SECOND_US = 1_000_000


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def refusal(wait_s: float = 10.0, *, remaining: int = 0, reset_s: float = 60.0, at_us: int = 1) -> Decision:
    return Decision(False, 5, remaining, round(wait_s * SECOND_US), round(reset_s * SECOND_US), at_us)


def learned(clock: FakeClock, ask: Ask | None = None, decision: Decision | None = None) -> Denials:
    """Return what remembers one refusal that was asked for and answered just now."""
    denials = Denials(clock)
    denials.learn([ask or Ask(RULE, "k")], [decision or refusal()], clock.monotonic_s())
    return denials


def refuses(denials: Denials, ask: Ask) -> bool:
    return denials.look([ask], denials.clock.monotonic_s()) is not None


# -- what is remembered -------------------------------------------------------------------------------


def test_a_refusal_is_remembered_until_the_store_would_let_it_pass_and_tells_what_is_left_to_wait() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        denials = learned(clock, decision=refusal(10, remaining=3))
        await clock.advance(4)

        assert denials.look([Ask(RULE, "k")], 4.0) == [Decision(False, 5, 3, 6 * SECOND_US, 56 * SECOND_US)]
        assert not refuses(denials, Ask(RULE, "other"))
        assert not refuses(denials, Ask(OTHER, "k"))
        await clock.advance(6)
        assert not refuses(denials, Ask(RULE, "k"))
        assert (denials.by_place, denials.by_digest) == ({}, {})
        assert denials.answered == 1

    run(scenario)


def test_what_is_remembered_ends_by_the_moment_of_asking_and_what_is_told_by_that_of_the_answer() -> None:
    """Then it outlasts the store's own answer never, and who waits as told is not refused once more."""

    async def scenario() -> None:
        clock = FakeClock()
        denials = Denials(clock)
        await clock.advance(2)
        denials.learn([Ask(RULE, "k")], [refusal(10)], asked_s=1.5)

        [told] = denials.look([Ask(RULE, "k")], 2.0) or []
        assert told.retry_after_us == 10 * SECOND_US
        assert denials.look([Ask(RULE, "k")], 11.499)
        assert denials.look([Ask(RULE, "k")], 11.5) is None

    run(scenario)


def test_a_long_refusal_is_asked_about_again_now_and_then() -> None:
    async def scenario() -> None:
        denials = learned(FakeClock(), decision=refusal(86_400, reset_s=86_400))

        [told] = denials.look([Ask(RULE, "k")], LONGEST_S - 1) or []
        assert told.retry_after_us == (86_400 - 59) * SECOND_US
        assert denials.look([Ask(RULE, "k")], LONGEST_S) is None

    run(scenario)


@pytest.mark.parametrize(
    ("ask", "decision"),
    [
        pytest.param(Ask(RULE, "k"), Decision(True, 5, 4, 0, 1), id="allowed"),
        pytest.param(Ask(RULE, "k", 9), refusal()._replace(retry_after_us=NEVER), id="never"),
        pytest.param(Ask(PLACES, "k", 1, "holder"), refusal(), id="concurrency"),
        pytest.param(Ask(replace(RULE, mode=Mode.SHADOW), "k"), refusal(), id="shadow"),
        pytest.param(Ask(RULE, "k"), refusal(0.004), id="over-before-it-pays"),
        pytest.param(Ask(RULE, "k"), refusal(at_us=-1), id="decided-without-the-store"),
        pytest.param(Ask(RULE, "k" * (MAX_KEY_CHARS + 1)), refusal(), id="a-key-to-fill-the-memory"),
    ],
)
def test_what_is_not_remembered(ask: Ask, decision: Decision) -> None:
    async def scenario() -> None:
        assert learned(FakeClock(), ask, decision).by_place == {}

    run(scenario)


@pytest.mark.parametrize(("cost", "refused"), [(0, False), (2, False), (3, True), (4, False)])
def test_another_cost_passes_through_to_the_store(cost: int, refused: bool) -> None:
    """Less may be allowed, and more has to wait for longer than is known here."""

    async def scenario() -> None:
        denials = learned(FakeClock(), Ask(RULE, "k", 3))

        assert refuses(denials, Ask(RULE, "k", cost)) is refused

    run(scenario)


def test_a_shadow_limit_refuses_nobody_though_it_counts_where_an_enforced_one_did() -> None:
    async def scenario() -> None:
        assert not refuses(learned(FakeClock()), Ask(replace(RULE, mode=Mode.SHADOW), "k"))

    run(scenario)


def test_of_several_limits_those_that_refused_are_named_and_the_others_are_not_asked() -> None:
    async def scenario() -> None:
        denials = Denials(FakeClock())
        third = replace(RULE, name="third")
        asks = [Ask(OTHER, "k"), Ask(RULE, "k"), Ask(third, "k")]
        denials.learn(asks, [Decision(True, 5, 5, 0, 0, 1), refusal(2), refusal(3)], 0.0)

        told = denials.look([*asks, Ask(PLACES, "k", 1, "h")], 1.0)
        assert told is not None
        assert [(one.allowed, one.remaining, one.retry_after_us) for one in told] == [
            (True, NOT_ASKED, 0),
            (False, 0, SECOND_US),
            (False, 0, 2 * SECOND_US),
            (True, NOT_ASKED, 0),
        ]

    run(scenario)


def test_memory_is_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials_file, "MAX_DENIALS", 3)

    async def scenario() -> None:
        denials = Denials(FakeClock())
        for key in "abcad":
            denials.learn([Ask(RULE, key)], [refusal()], 0.0)

        assert [key for _, key in denials.by_place] == ["c", "a", "d"]
        assert sorted(denials.by_digest.values()) == sorted(denials.by_place)

    run(scenario)


# -- what ends it early -------------------------------------------------------------------------------


class Pair:
    """Two instances on one bus; both remember that `k` and `j` were refused."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.hub = MemoryHub(self.clock)
        self.one, self.other = Denials(self.clock), Denials(self.clock)
        for denials in (self.one, self.other):
            denials.start(MemoryStore(self.hub).bus)
            denials.learn([Ask(RULE, "k"), Ask(RULE, "j")], [refusal(), refusal()], 0.0)

    def refused(self) -> list[str]:
        """Return whom each of them refuses."""
        return ["".join(key for _, key in denials.by_place) for denials in (self.one, self.other)]


def test_what_is_given_back_here_is_forgotten_everywhere() -> None:
    async def scenario() -> None:
        pair = Pair()
        pair.one.forget([(RULE, "k"), (RULE, "never refused")])
        assert pair.refused() == ["j", "kj"]
        await settle()

        assert pair.refused() == ["j", "j"]
        assert pair.other.by_digest.keys() == {digest_of(RULE.counter, "j")}

    run(scenario)


def test_keys_are_not_said_on_the_bus() -> None:
    async def scenario() -> None:
        pair = Pair()
        heard: list[bytes] = []
        MemoryStore(pair.hub).bus.subscribe(denials_file.CHANNEL, heard.append)
        pair.one.forget([(RULE, "secret"), (RULE, "k")])
        await settle()

        assert heard == [digest_of(RULE.counter, "secret") + digest_of(RULE.counter, "k")]

    run(scenario)


@pytest.mark.parametrize("noise", [b"", b"x", b"x" * 16, b"x" * 100])
def test_noise_on_the_bus_is_no_news(noise: bytes) -> None:
    async def scenario() -> None:
        pair = Pair()
        await MemoryStore(pair.hub).bus.publish(denials_file.CHANNEL, noise)
        await settle()

        assert pair.refused() == ["kj", "kj"]

    run(scenario)


def test_a_gap_of_the_bus_makes_everybody_forget_everything() -> None:
    async def scenario() -> None:
        pair = Pair()
        pair.hub.go_away()
        assert pair.refused() == ["kj", "kj"]
        pair.hub.come_back()
        await settle()

        assert pair.refused() == ["", ""]

    run(scenario)


def test_news_that_could_not_be_sent_is_sent_again() -> None:
    async def scenario() -> None:
        pair = Pair()
        pair.hub.away = True  # for the one who sends; the other hears of no gap
        pair.one.forget([(RULE, "k")])
        await settle()
        pair.one.forget([(RULE, "k"), (RULE, "j")])
        await pair.clock.advance(RETRY_S)
        assert pair.refused() == ["", "kj"]
        pair.hub.away = False
        await pair.clock.advance(RETRY_S)

        assert pair.refused() == ["", ""]
        assert (pair.one.untold, pair.one.telling) == ({}, None)

    run(scenario)


def test_more_news_than_can_be_told_is_told_as_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials_file, "MAX_NEWS", 3)

    async def scenario() -> None:
        pair = Pair()
        pair.one.forget((RULE, f"x{number}") for number in range(5))
        await settle()

        assert pair.refused() == ["", ""]
        assert len(pair.other.news) <= 3

    run(scenario)


def test_a_refusal_that_was_on_its_way_when_something_was_given_back_is_not_remembered() -> None:
    async def scenario() -> None:
        pair = Pair()
        pair.other.clear()
        await pair.clock.advance(1.0)
        asked_s = pair.clock.monotonic_s()
        await pair.clock.advance(0.001)
        pair.one.forget([(RULE, "k")])
        await settle()
        pair.other.learn([Ask(RULE, "k"), Ask(RULE, "j")], [refusal(), refusal()], asked_s)
        assert pair.refused()[1] == "j"

        await pair.clock.advance(0.001)
        pair.other.learn([Ask(RULE, "k")], [refusal()], pair.clock.monotonic_s())
        assert pair.refused()[1] == "jk"

    run(scenario)


@pytest.mark.parametrize("end", ["a gap", "much news"])
def test_nor_one_that_was_on_its_way_when_everything_was_forgotten(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials_file, "MAX_NEWS", 3)

    async def scenario() -> None:
        clock = FakeClock()
        denials = Denials(clock)
        await clock.advance(1.0)
        if end == "a gap":
            denials.clear()
        else:
            for number in range(10):
                denials.on_news(bytes([number]) * 16)
        denials.learn([Ask(RULE, "k")], [refusal()], 0.999)

        assert denials.by_place == {}
        assert len(denials.news) <= 3

    run(scenario)


# -- the end ------------------------------------------------------------------------------------------


def test_stopping_tells_what_was_not_told_yet_and_hears_no_more() -> None:
    async def scenario() -> None:
        pair = Pair()
        pair.hub.away = True
        pair.one.forget([(RULE, "k")])
        await settle()
        pair.hub.away = False
        await pair.one.stop()
        await settle()
        assert pair.refused() == ["", "j"]

        pair.one.learn([Ask(RULE, "k")], [refusal()], pair.clock.monotonic_s() + 1)
        pair.other.forget([(RULE, "k")])
        await settle()
        assert pair.refused()[0] == "k"

    run(scenario)


def test_stopping_waits_for_no_store_and_without_a_bus_nobody_is_told() -> None:
    async def scenario() -> None:
        pair = Pair()
        pair.hub.away = True
        pair.one.forget([(RULE, "k")])
        await pair.one.stop()
        await pair.one.stop()
        pair.one.forget([(RULE, "k")])

        assert (pair.one.untold, pair.one.telling) == ({}, None)

    run(scenario)

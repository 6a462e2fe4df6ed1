"""Exceptions for single keys, made at run time for the whole fleet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from silence_gateway.core.limits import Algorithm, Alignment, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import BadRequest, StoreMisconfigured, StoreUnavailable
from silence_gateway.events import Event
from silence_gateway.limiting import overrides as overrides_file
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.limiting.override_entry import Override, OverrideChanged, OverrideUnreadable, written
from silence_gateway.limiting.overrides import MAX_DIGESTS, MAX_KEY_CHARS, ROOM, Overrides
from silence_gateway.stores.memory import MemoryBoard, MemoryHub, MemoryStore
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.limiters import local_limiter

WINDOW = LimitRule(name="login", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/minute"))
BUCKET = LimitRule(
    name="api", algorithm=Algorithm.TOKEN_BUCKET, rate=parse_rate("5/minute"), burst=9, lease=4
)
COUNTER = LimitRule(name="reads", algorithm=Algorithm.SLIDING_COUNTER, rate=parse_rate("5/minute"))
QUOTA = LimitRule(name="quota", algorithm=Algorithm.FIXED_WINDOW, rate=parse_rate("5/day"))
FIRST = LimitRule(
    name="first", algorithm=Algorithm.FIXED_WINDOW, rate=parse_rate("5/day"), align=Alignment.FIRST_HIT
)
PLACES = LimitRule(name="reports", algorithm=Algorithm.CONCURRENCY, max=2)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


class Fleet:
    """Two instances on one store, and what they tell."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.hub = MemoryHub(self.clock)
        self.told: list[Event] = []
        self.changed = 0
        self.here, self.there = self.new(), self.new()

    def new(self) -> Overrides:
        overrides = Overrides(MemoryStore(self.hub).board, self.clock, self.told.append)
        overrides.on_changed = self.note
        overrides.start()
        return overrides

    def note(self) -> None:
        self.changed += 1

    async def put(self, said: dict[str, Any], rule: LimitRule = WINDOW, key: str = "ann") -> Override:
        override = await self.here.put(rule, key, key, said, "ops")
        await settle()
        return override

    def rule(self, rule: LimitRule = WINDOW, key: str = "ann") -> LimitRule:
        """Return the rule that holds for a key on the other instance."""
        override = self.there.find(rule.name, key)
        assert override is not None
        return self.there.rule_for(override, rule)


@pytest.mark.parametrize(
    ("rule", "said", "capacity", "shape"),
    [
        pytest.param(WINDOW, {"rate": "50/hour"}, 50, "50/h", id="window"),
        pytest.param(COUNTER, {"rate": "50/hour"}, 50, "50/h", id="counter"),
        pytest.param(BUCKET, {"rate": "50/hour"}, 50, "50/h", id="bucket-with-another-rate"),
        pytest.param(BUCKET, {"burst": 30}, 30, "5/m", id="bucket-with-another-burst"),
        pytest.param(BUCKET, {"rate": "50/hour", "burst": 70}, 70, "50/h", id="bucket-with-both"),
        pytest.param(QUOTA, {"rate": "900/month"}, 900, "900/month", id="quota"),
        pytest.param(FIRST, {"rate": "1/s"}, 1, "1/s", id="window-from-the-first-hit"),
        pytest.param(PLACES, {"max": 40}, 40, "None", id="places"),
        pytest.param(WINDOW, {"unlimited": True}, 5, "5/m", id="unlimited"),
        pytest.param(WINDOW, {"blocked": True}, 5, "5/m", id="blocked"),
    ],
)
def test_what_one_instance_makes_holds_on_the_others(
    rule: LimitRule, said: dict[str, Any], capacity: int, shape: str
) -> None:
    async def scenario() -> None:
        fleet = Fleet()
        made = await fleet.put(said, rule)
        changed = fleet.rule(rule)

        assert fleet.there.find(rule.name, "ann") == made
        assert (changed.capacity, str(changed.rate)) == (capacity, shape)
        assert (changed.name, changed.algorithm, changed.lease <= rule.lease) == (
            rule.name,
            rule.algorithm,
            True,
        )
        assert fleet.rule(rule) is changed, "the same object every time: rules are known by identity"
        assert (made.unlimited, made.blocked) == ("unlimited" in said, "blocked" in said)
        assert fleet.there.find(rule.name, "bob") is None
        assert fleet.there.find("other", "ann") is None

    run(scenario)


def test_a_smaller_limit_has_a_smaller_lease() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.put({"rate": "2/minute", "burst": 2}, BUCKET)

        assert fleet.rule(BUCKET).lease == 2

    run(scenario)


def test_an_exception_ends_by_itself_everywhere() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        made = await fleet.put({"blocked": True, "ttl": 60})
        assert made.until_us == fleet.clock.now_us() + 60_000_000
        await fleet.clock.advance(59.9)
        assert fleet.there.find("login", "ann")
        changed = fleet.changed
        await fleet.clock.advance(0.2)

        assert (fleet.here.by_limit, fleet.there.by_limit) == ({}, {})
        assert fleet.changed == changed + 2

    run(scenario)


def test_an_exception_is_replaced_and_taken_back() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.put({"blocked": True})
        await fleet.put({"rate": "9/minute"})
        assert fleet.rule().capacity == 9
        assert await fleet.there.remove("login", "ann", "ann", "ops")
        await settle()

        assert fleet.here.find("login", "ann") is None
        assert not await fleet.here.remove("login", "ann", "ann", "ops")
        assert [(event.change, event.what) for event in fleet.told if isinstance(event, OverrideChanged)] == [
            ("made", "blocked"),
            ("made", "rate 9/minute"),
            ("removed", ""),
        ]

    run(scenario)


def test_who_did_what_and_why_is_a_line_for_the_audit() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.put(
            {"rate": "7/s", "burst": 9, "unlimited": False, "ttl": 5, "reason": "launch day"}, BUCKET
        )

        assert fleet.told == [
            OverrideChanged(
                change="made",
                limit="api",
                key="ann",
                what="rate 7/s, burst 9",
                ttl_s=5,
                reason="launch day",
                by="ops",
            )
        ]
        assert fleet.told[0].level == "info"

    run(scenario)


def test_what_the_store_refuses_is_told_too() -> None:
    class Full(MemoryBoard):
        async def put(self, room: str, name: str, value: bytes, ttl_s: float | None = None) -> None:
            raise StoreMisconfigured("OOM")

        async def remove(self, room: str, name: str) -> None:
            raise StoreMisconfigured("OOM")

    async def scenario() -> None:
        fleet = Fleet()
        await fleet.put({"blocked": True})
        fleet.here.board = Full(fleet.hub, "full")
        with pytest.raises(StoreMisconfigured):
            await fleet.put({"blocked": True}, key="bob")
        with pytest.raises(StoreMisconfigured):
            await fleet.here.remove("login", "ann", "ann", "ops")

        assert [
            (event.change, event.key) for event in fleet.told[1:] if isinstance(event, OverrideChanged)
        ] == [("made", "bob"), ("refused", "bob"), ("removed", "ann"), ("refused", "ann")]

    run(scenario)


def test_exceptions_are_listed_in_the_order_of_their_keys() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        for key in ("cid", "ann", "bob"):
            await fleet.put({"blocked": True}, key=key)

        assert [override.shown for override in fleet.there.listed("login")] == ["ann", "bob", "cid"]
        assert fleet.there.listed("other") == []

    run(scenario)


def test_an_instance_that_starts_later_has_them_too() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.put({"blocked": True})

        assert fleet.new().find("login", "ann")

    run(scenario)


def test_while_the_store_is_away_an_exception_holds_here_and_later_everywhere() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        fleet.hub.go_away()
        with pytest.raises(StoreUnavailable):
            await fleet.put({"blocked": True})
        assert fleet.here.find("login", "ann")
        assert fleet.there.find("login", "ann") is None
        fleet.hub.come_back()
        await settle()

        assert fleet.there.find("login", "ann")

    run(scenario)


# -- what cannot be had -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "said", "says"),
    [
        (WINDOW, {}, "limit login: say what holds for this key: rate, burst, max, unlimited or blocked"),
        (WINDOW, {"blocked": False}, "limit login: say what holds"),
        (WINDOW, {"rate": ""}, "limit login: say what holds"),
        (WINDOW, {"tll": 5}, "limit login: tll is not known here; there are rate, burst, max, unlimited, bl"),
        (
            WINDOW,
            {"rate": "often"},
            "limit login: 'often' is not a rate; write COUNT/WINDOW, as in 100/minute",
        ),
        (WINDOW, {"rate": "5/month"}, "limit login: months and years have no one length: use a fixed_window"),
        (WINDOW, {"rate": 5}, "limit login: rate is a text such as '100/minute', not '5'"),
        (WINDOW, {"burst": 5}, "limit login: burst belongs to token_bucket: remove it"),
        (WINDOW, {"max": 5}, "limit login: sliding_window takes a rate; max belongs to concurrency: remove"),
        (BUCKET, {"burst": 0}, "limit api: burst is at least 1, not 0"),
        (BUCKET, {"burst": "5"}, "limit api: burst is a whole number, not '5'"),
        (BUCKET, {"burst": True}, "limit api: burst is a whole number, not 'True'"),
        (BUCKET, {"burst": 2.5}, "limit api: burst is a whole number, not '2.5'"),
        (
            BUCKET,
            {"rate": "1/366d", "burst": 10**9},
            "limit api: a token_bucket of 1000000000 at 1/366d cannot",
        ),
        (PLACES, {"rate": "5/s"}, "limit reports: concurrency takes max, and no rate"),
        (PLACES, {"max": 0}, "limit reports: max is 1 to 100000, not 0"),
        (PLACES, {"max": 10**6}, "limit reports: max is 1 to 100000, not 1000000"),
        (WINDOW, {"unlimited": "false"}, "limit login: unlimited is true or false, not 'false'"),
        (WINDOW, {"blocked": 1}, "limit login: blocked is true or false, not '1'"),
        (
            WINDOW,
            {"blocked": True, "rate": "5/s"},
            "limit login: rate and blocked do not go together: keep one",
        ),
        (WINDOW, {"unlimited": True, "blocked": True}, "unlimited and blocked do not go together"),
        (WINDOW, {"blocked": True, "ttl": 0}, "limit login: ttl is above 0 s and at most 366 days, not 0 s"),
        (WINDOW, {"blocked": True, "ttl": -1}, "not -1 s"),
        (WINDOW, {"blocked": True, "ttl": float("nan")}, "not nan s"),
        (WINDOW, {"blocked": True, "ttl": 10**9}, "not 1e"),
        (WINDOW, {"blocked": True, "ttl": "60"}, "limit login: ttl is a number of seconds, not '60'"),
        (WINDOW, {"blocked": True, "reason": "x" * 201}, "limit login: a reason has at most 200 characters"),
        (WINDOW, {"blocked": True, "reason": 5}, "limit login: reason is a text, not '5'"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    rule: LimitRule, said: dict[str, Any], says: str
) -> None:
    async def scenario() -> None:
        fleet = Fleet()
        with pytest.raises(BadRequest) as refused:
            await fleet.put(said, rule)

        assert says in str(refused.value)
        assert (fleet.here.by_limit, fleet.told) == ({}, [])

    run(scenario)


def test_a_limit_in_which_no_request_fits_is_refused() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        with pytest.raises(BadRequest, match="a cost of 3 never fits in 2: allow more, or say blocked"):
            await fleet.here.put(WINDOW, "k", "k", {"rate": "2/s"}, "ops", cost=3)

    run(scenario)


def test_there_are_not_more_than_the_board_can_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides_file, "MAX_OVERRIDES", 2)

    async def scenario() -> None:
        fleet = Fleet()
        await fleet.put({"blocked": True}, key="a")
        await fleet.put({"blocked": True}, BUCKET, key="b")
        with pytest.raises(BadRequest, match="there are 2 overrides already: remove some, or make a limit"):
            await fleet.put({"blocked": True}, key="c")
        await fleet.put({"rate": "9/s"}, key="a")

        assert fleet.rule(key="a").capacity == 9

    run(scenario)


# -- what is stored ---------------------------------------------------------------------------------


GOOD: dict[str, Any] = {"shown": "ann", "blocked": True, "added_us": 1}
WRONG: list[dict[str, Any]] = [
    {"limit": "other"},
    {"colour": "red"},
    {"shown": 5},
    {"shown": "x" * 5000},
    {"blocked": "yes"},
    {"blocked": 1},
    {"unlimited": None},
    {"burst": "5"},
    {"burst": True},
    {"max": 2.5},
    {"rate": 5},
    {"reason": ["x"]},
    {"by": {}},
    {"added_us": -1},
    {"until_us": 2**70},
    {"until_us": "soon"},
]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b"[" * 60_000,
        b'{"shown": "ann", "blocked": tru',
        *(json.dumps(GOOD | wrong).encode() for wrong in WRONG),
    ],
)
def test_garbage_on_the_board_is_reported_and_not_applied(value: bytes) -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.put({"rate": "9/minute"})
        name = fleet.here.name_of("login", "bob")
        await MemoryStore(fleet.hub).board.put(ROOM, name, value)
        await settle()

        assert fleet.there.find("login", "bob") is None
        assert fleet.rule().capacity == 9
        assert [event for event in fleet.told if isinstance(event, OverrideUnreadable)] == [
            OverrideUnreadable(name=name)
        ] * 2
        assert fleet.told[-1].level == "warning"

    run(scenario)


@pytest.mark.parametrize("name", ["login", "", " ", "x" * 500, "nobody's limit f00"])
def test_a_name_that_nobody_wrote_is_no_trouble(name: str) -> None:
    async def scenario() -> None:
        fleet = Fleet()
        board = MemoryStore(fleet.hub).board
        if name:
            await board.put(ROOM, name, json.dumps(GOOD).encode())
            await settle()
            await board.remove(ROOM, name)
            await settle()
        assert fleet.there.find("login", "ann") is None
        assert fleet.there.by_limit == {}

    run(scenario)


def test_an_exception_that_no_longer_goes_with_its_limit_changes_nothing() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.put({"burst": 30}, BUCKET)
        became = LimitRule(name="api", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/minute"))

        assert fleet.rule(became) is became

    run(scenario)


def test_made_rules_and_hashes_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides_file, "MAX_OVERRIDES", 5)
    monkeypatch.setattr(overrides_file, "MAX_DIGESTS", 5)

    async def scenario() -> None:
        overrides = Fleet().here
        for number in range(30):
            override = Override(limit="login", shown="", rate=f"{number + 1}/s")
            assert overrides.rule_for(override, WINDOW).capacity == number + 1
            overrides.digest(str(number))
        overrides.digest("x" * (MAX_KEY_CHARS + 1))

        assert len(overrides.rules) <= 10
        assert len(overrides.digests) <= 5
        assert "x" * (MAX_KEY_CHARS + 1) not in overrides.digests

    assert MAX_DIGESTS > 5
    run(scenario)


# -- keys that may be secrets -------------------------------------------------------------------------


def limiter_over(hub: MemoryHub, *specs: LimitSpec) -> tuple[Limiter, list[Event]]:
    limiter, told = local_limiter(specs), list[Event]()
    limiter.decider.overrides = Overrides(MemoryStore(hub).board, hub.clock, told.append)
    limiter.decider.overrides.start()
    return limiter, told


@pytest.mark.parametrize(
    ("key", "shown"),
    [(("header:x-api-key",), "#"), (("client_ip",), "s3cret"), (("header:x-tenant",), "s3cret")],
)
def test_a_key_that_may_be_a_secret_is_stored_and_told_nowhere(key: tuple[str, ...], shown: str) -> None:
    async def scenario() -> None:
        hub = MemoryHub(FakeClock())
        limiter, told = limiter_over(hub, LimitSpec(rule=WINDOW, any=True, key=key))
        made = await limiter.put_override("login", "s3cret", {"blocked": True}, "ops")
        await settle()
        assert made.shown.startswith(shown)
        assert limiter.overrides.find("login", "s3cret") == made
        assert await limiter.remove_override("login", "s3cret", "ops")

        stored = f"{hub.rooms} {told}" + repr([written(made), limiter.overrides.name_of("login", "s3cret")])
        assert ("s3cret" in stored) is (shown == "s3cret")
        assert len(told) == 2

    run(scenario)

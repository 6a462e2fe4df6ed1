"""The limiter of a gateway, on a memory store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.core.http import HeaderList, Request
from silence_gateway.core.limits import Algorithm, Alignment, LimitRule, Mode, Op
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import BadRequest, NotFound, RateLimited, StoreUnavailable
from silence_gateway.limiting.admission import Admission
from silence_gateway.limiting.cost import Cost
from silence_gateway.limiting.decider import Decider
from silence_gateway.limiting.holds import Holds
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import MAX_MATCHES, Limiter
from silence_gateway.limiting.overrides import Overrides
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore
from silence_gateway.testing.limiters import local_limiter


def spec(name: str, rate: str = "2/minute", *, mode: Mode = Mode.ENFORCE, **where: Any) -> LimitSpec:
    rule = LimitRule(name=name, algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate(rate), mode=mode)
    return LimitSpec(rule=rule, **(where or {"any": True}))


def limiter_of(*specs: LimitSpec) -> Limiter:
    return local_limiter(specs)


def names(limiter: Limiter, method: str, path: str, rpc: str = "") -> list[str]:
    matched = limiter.match(method, path, rpc)
    return [] if matched is None else [one.rule.name for one in matched.specs]


async def ask(limiter: Limiter, ip: str = "10.0.0.1", path: str = "/") -> list[tuple[bytes, bytes]]:
    matched = limiter.match("GET", path, "")
    assert matched is not None
    return await limiter.admit(Request("GET", path, {}, peer=ip), matched)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/api/login", "/api/login", True),
        ("/api/login", "/api/%6Cogin", True),
        ("/api/login", "/api/login/", False),
        ("/api/login", "/api", False),
        ("/api/*/x", "/api/7/x", True),
        ("/api/{id}/x", "/api/7/x", True),
        ("/api/*/x", "/api//x", False),
        ("/api/**", "/api", True),
        ("/api/**", "/api/a/b/c", True),
        ("/api/**", "/apis", False),
        ("/**", "/", True),
        ("/things/*:sell", "/things/7:sell", True),
        ("/things/*:sell", "/things/7", False),
        ("/things/*", "/things/7:sell", True),
        ("/api/**", "/api/%zz", False),
    ],
)
def test_a_path_pattern_covers_what_the_router_would_serve(pattern: str, path: str, matches: bool) -> None:
    assert names(limiter_of(spec("l", path=pattern)), "GET", path) == (["l"] if matches else [])


def test_limits_are_found_by_method_rpc_or_for_all_in_the_order_configured() -> None:
    limiter = limiter_of(
        spec("all", any=True),
        spec("get", path="/a", methods=("GET",)),
        spec("rpc", rpc="pkg.Service/Do"),
        spec("posts", any=True, methods=("POST",)),
    )

    assert names(limiter, "GET", "/a") == ["all", "get"]
    assert names(limiter, "HEAD", "/a") == ["all", "get"]
    assert names(limiter, "POST", "/a") == ["all", "posts"]
    assert names(limiter, "POST", "/b", "pkg.Service/Do") == ["all", "rpc", "posts"]


def test_no_limit_is_none() -> None:
    assert limiter_of(spec("l", path="/a")).match("GET", "/b", "") is None


def test_what_is_remembered_of_matches_is_bounded() -> None:
    limiter = limiter_of(spec("l", path="/a/**"))
    for number in range(MAX_MATCHES + 10):
        assert names(limiter, "GET", f"/a/{number}") == ["l"]

    assert len(limiter.matches) <= MAX_MATCHES
    assert len(limiter.sets) == 2


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ({"path": "/a", "any": True}, "one of path, rpc or any"),
        ({"key": ("client_ip",)}, "one of path, rpc or any"),
        ({"any": True, "cost": Cost(amount=3)}, "never fits in 2"),
        ({"any": True, "key": ("nobody",)}, "no part of a key"),
        ({"path": "api"}, "starts with"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(where: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        spec("l", **where)


def test_two_limits_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        limiter_of(spec("l"), spec("l"))


def test_a_caller_learns_what_is_left_and_then_when_to_come_back() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("l"))

        assert (b"RateLimit", b'"l";r=1;t=60') in await ask(limiter)
        await ask(limiter)
        with pytest.raises(RateLimited) as refused:
            await ask(limiter)
        await ask(limiter, "10.0.0.2")

        assert refused.value.limits == ("l",)
        assert refused.value.retry_after_s == 60.0
        assert (b"Retry-After", b"60") in refused.value.headers

    asyncio.run(scenario())


def test_a_refusal_by_one_limit_spends_nothing_of_the_others() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("tight", "1/minute"), spec("wide", "9/minute"))
        await ask(limiter)
        for _ in range(5):
            with pytest.raises(RateLimited):
                await ask(limiter)

        assert (await limiter.state("wide", "10.0.0.1")).remaining == 8

    asyncio.run(scenario())


def test_a_shadow_limit_counts_and_refuses_nothing() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("s", "1/minute", mode=Mode.SHADOW))
        for _ in range(3):
            assert await ask(limiter) == []

        counts = limiter.statistics["s"]
        assert (counts.allowed, counts.denied, counts.shadow_denied) == (1, 0, 2)
        assert counts.take() == [({"10.0.0.1": 3}, {"10.0.0.1": 2})]  # whom it would have refused

    asyncio.run(scenario())


def test_decisions_are_counted_with_the_busiest_clients() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("l", "3/minute"))
        for _ in range(5):
            try:
                await ask(limiter)
            except RateLimited:
                continue
        await ask(limiter, "10.0.0.2")

        counts = limiter.statistics["l"]
        assert (counts.allowed, counts.denied, counts.near) == (4, 2, 1)
        assert counts.take() == [({"10.0.0.1": 5, "10.0.0.2": 1}, {"10.0.0.1": 2})]

    asyncio.run(scenario())


def test_an_operator_may_look_at_a_key_and_reset_it() -> None:
    async def scenario() -> None:
        limiter = limiter_of(spec("l"))
        await ask(limiter)

        assert (await limiter.state("l", "10.0.0.1")).remaining == 1
        assert await limiter.reset("l", "10.0.0.1")
        assert (await limiter.state("l", "10.0.0.1")).remaining == 2
        with pytest.raises(NotFound, match="there are: l"):
            await limiter.state("x", "10.0.0.1")

    asyncio.run(scenario())


def test_a_limit_on_a_path_is_not_passed_by_calling_the_method_by_its_name() -> None:
    limiter = limiter_of(
        spec("login", path="/v1/login", methods=("POST",)),
        spec("orders", path="/v1/orders/**"),
        spec("x", path="/x"),
    )
    aliases = (("POST", "/v1/login"), ("GET", "/v1/orders/x"))

    matched = limiter.match("POST", "/auth.Auth/Login", "auth.Auth/Login", aliases)

    assert matched is not None
    assert [one.rule.name for one in matched.specs] == ["login", "orders"]
    assert limiter.match("POST", "/auth.Auth/Login", "auth.Auth/Login") is None


def test_answers_for_very_long_paths_are_not_remembered() -> None:
    limiter = limiter_of(spec("l", path="/a/**"))

    assert names(limiter, "GET", "/a/" + "x" * 5000) == ["l"]
    assert limiter.matches == {}


@pytest.mark.parametrize(
    "rule",
    [
        LimitRule(name="l", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/hour")),
        LimitRule(name="l", algorithm=Algorithm.SLIDING_COUNTER, rate=parse_rate("5/hour")),
        LimitRule(name="l", algorithm=Algorithm.TOKEN_BUCKET, rate=parse_rate("5/hour")),
        LimitRule(name="l", algorithm=Algorithm.FIXED_WINDOW, rate=parse_rate("5/hour")),
    ],
    ids=lambda rule: rule.algorithm.value,
)
def test_an_operator_may_grant_uses(rule: LimitRule) -> None:
    async def scenario() -> None:
        limiter = limiter_of(LimitSpec(rule=rule, any=True))
        for _ in range(5):
            await ask(limiter)
        assert await limiter.grant("l", "10.0.0.1", 2) == 2
        assert (await limiter.state("l", "10.0.0.1")).remaining == 2
        assert await limiter.grant("l", "10.0.0.1", 9) == 3
        assert await limiter.grant("l", "nobody", 9) == 0
        with pytest.raises(BadRequest, match="limit l: grant at least one use, not 0"):
            await limiter.grant("l", "10.0.0.1", 0)
        with pytest.raises(NotFound):
            await limiter.grant("x", "10.0.0.1", 1)

    asyncio.run(scenario())


def test_places_are_not_granted_and_not_every_limiter_has_exceptions() -> None:
    async def scenario() -> None:
        limiter = limiter_of(places())
        with pytest.raises(BadRequest, match="limit places: it gives places, which are free when"):
            await limiter.grant("places", "k", 1)
        with pytest.raises(BadRequest, match="no exceptions"):
            await limiter.put_override("places", "k", {"blocked": True}, "ops")
        with pytest.raises(NotFound):
            await limiter.remove_override("x", "k", "ops")

    asyncio.run(scenario())


# -- requests that are not over when they have passed ------------------------------------------------


class Gate:
    """A limiter over a distant store, and requests that pass it."""

    def __init__(self, *specs: LimitSpec) -> None:
        self.clock = FakeClock()
        self.store = DistantLimitStore(self.clock)
        self.overrides = Overrides(MemoryStore().board, self.clock)
        self.overrides.start()
        decider = Decider(self.store, self.clock, overrides=self.overrides)
        self.limiter = Limiter(specs, decider, Holds(self.store, self.clock, "test"))

    async def admit(self, headers: dict[bytes, bytes] | None = None) -> Admission:
        matched = self.limiter.match("GET", "/", "")
        assert matched is not None
        assert not matched.fixed
        return await self.limiter.admit_for_now(Request("GET", "/", headers or {}, peer="ann"), matched)

    async def settle(self, admission: Admission, told: HeaderList | None) -> list[tuple[Op, int]]:
        """End a request; returns what the store was told about that."""
        before = len(self.store.changes)
        admission.end(told)
        await settle()
        return [(change.op, change.amount) for change in self.store.changes[before:]]

    def used(self, name: str) -> int:
        return self.store.used(self.limiter.specs[name].rule, "ann")


def places(name: str = "places", most: int = 1, mode: Mode = Mode.ENFORCE) -> LimitSpec:
    return LimitSpec(
        rule=LimitRule(name=name, algorithm=Algorithm.CONCURRENCY, max=most, mode=mode), any=True
    )


TOKENS = spec("tokens", "100/minute", any=True, cost=Cost(amount=10, answer_header=b"x-tokens"))


@pytest.mark.parametrize(
    ("told", "changes", "used"),
    [
        pytest.param([(b"x-tokens", b"4")], [(Op.GIVE_BACK, 6)], 4, id="refund"),
        pytest.param([(b"x-tokens", b"25")], [(Op.CHARGE, 15)], 25, id="charge"),
        pytest.param([(b"x-tokens", b"10")], [], 10, id="as-reserved"),
        pytest.param([(b"x-tokens", b"150")], [(Op.CHARGE, 140)], 150, id="beyond-the-limit"),
        pytest.param([(b"grpc-trailer-x-tokens", b"0")], [(Op.GIVE_BACK, 10)], 0, id="nothing-spent"),
        pytest.param(None, [(Op.GIVE_BACK, 10)], 0, id="nobody-worked"),
        pytest.param([], [], 10, id="silence"),
        pytest.param([(b"x-tokens", b"lots")], [], 10, id="noise"),
    ],
)
def test_what_an_answer_tells_is_settled(
    told: HeaderList | None, changes: list[tuple[Op, int]], used: int
) -> None:
    async def scenario() -> None:
        gate = Gate(TOKENS)
        admission = await gate.admit()
        assert gate.used("tokens") == 10

        assert await gate.settle(admission, told) == changes
        assert gate.used("tokens") == used
        assert gate.limiter.untold == (told in ([], [(b"x-tokens", b"lots")]))
        assert await gate.settle(admission, [(b"x-tokens", b"99")]) == [], "a request is over once"

    asyncio.run(scenario())


def test_a_charge_beyond_the_limit_makes_the_next_ones_wait() -> None:
    async def scenario() -> None:
        gate = Gate(TOKENS)
        await gate.settle(await gate.admit(), [(b"x-tokens", b"150")])
        with pytest.raises(RateLimited):
            await gate.admit()
        await gate.clock.advance(61)

        assert (await gate.admit()).lines

    asyncio.run(scenario())


def test_what_a_header_of_the_request_tells_is_spent() -> None:
    async def scenario() -> None:
        gate = Gate(spec("l", "10/minute", any=True, cost=Cost(header=b"x-cost")))
        for cost in (b"4", b"0", b"5"):
            await gate.settle(await gate.admit({b"x-cost": cost}), [])
        await gate.admit()
        assert gate.used("l") == 10
        with pytest.raises(BadRequest):
            await gate.admit({b"x-cost": b"x"})
        with pytest.raises(RateLimited) as refused:
            await gate.admit({b"x-cost": b"11"})

        assert refused.value.retry_after_s is None
        assert [change for change in gate.store.changes if change.op is not Op.CHARGE] == []

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["away", "loses_answers"])
def test_what_the_store_does_not_hear_of_a_cost_is_counted(fault: str) -> None:
    async def scenario() -> None:
        gate = Gate(TOKENS)
        admission = await gate.admit()
        setattr(gate.store, fault, True)
        await gate.settle(admission, [(b"x-tokens", b"4")])

        assert gate.limiter.unsettled == 1

    asyncio.run(scenario())


def test_a_place_is_held_until_the_request_is_over() -> None:
    async def scenario() -> None:
        gate = Gate(places())
        admission = await gate.admit()
        with pytest.raises(RateLimited) as refused:
            await gate.admit()
        assert refused.value.retry_after_s == 1.0
        await gate.clock.advance(100)
        with pytest.raises(RateLimited):
            await gate.admit()

        assert await gate.settle(admission, []) == [(Op.RELEASE, 0)]
        await gate.admit()

    asyncio.run(scenario())


def test_a_request_that_another_limit_refuses_takes_no_place() -> None:
    async def scenario() -> None:
        gate = Gate(places("places", 9), spec("l", "1/minute"))
        await gate.admit()
        for _ in range(3):
            with pytest.raises(RateLimited):
                await gate.admit()

        assert gate.used("places") == 1
        assert len(gate.limiter.holds.held) == 1

    asyncio.run(scenario())


def test_a_shadow_limit_on_places_lets_everybody_in_and_holds_only_what_there_is() -> None:
    async def scenario() -> None:
        gate = Gate(places(mode=Mode.SHADOW))
        admissions = [await gate.admit() for _ in range(3)]
        counts = gate.limiter.statistics["places"]
        assert (counts.allowed, counts.shadow_denied, gate.used("places")) == (1, 2, 1)
        for admission in admissions:
            admission.end([])
        await settle()

        assert gate.used("places") == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("late", [0.0, 0.003])
def test_a_caller_who_leaves_before_it_was_decided_leaves_no_place_behind(late: float) -> None:
    async def scenario() -> None:
        gate = Gate(places(), spec("l", "10/minute"))
        gate.store.there_s = gate.store.back_s = 0.002
        asking = asyncio.ensure_future(gate.admit())
        await gate.clock.advance(late)
        asking.cancel()
        await gate.clock.advance(0.02)

        assert asking.cancelled()
        assert gate.used("places") == 0
        assert gate.limiter.holds.held == {}

    asyncio.run(scenario())


def test_a_store_that_fails_leaves_no_place_behind_that_it_may_have_given() -> None:
    async def scenario() -> None:
        gate = Gate(places())
        gate.store.loses_answers = True
        with pytest.raises(StoreUnavailable):
            await gate.admit()
        await settle()

        assert gate.used("places") == 0

    asyncio.run(scenario())


def test_a_key_that_is_free_from_a_limit_takes_no_place_and_settles_nothing() -> None:
    async def scenario() -> None:
        gate = Gate(places(), TOKENS)
        for name in ("places", "tokens"):
            rule = gate.limiter.specs[name].rule
            await gate.overrides.put(rule, "ann", "ann", {"unlimited": True}, "test")
        admissions = [await gate.admit() for _ in range(3)]
        await gate.clock.advance(100)

        assert gate.limiter.holds.held == {}
        assert await gate.settle(admissions[0], [(b"x-tokens", b"99")]) == []
        assert (gate.used("places"), gate.used("tokens")) == (0, 0)

    asyncio.run(scenario())


def test_a_limit_that_was_not_asked_has_decided_nothing() -> None:
    async def scenario() -> None:
        gate = Gate(spec("wide", "100/minute"), spec("tight", "1/minute"), places("places", 9))
        (await gate.admit()).end([])
        for _ in range(3):
            with pytest.raises(RateLimited) as refused:
                await gate.admit()
        assert gate.limiter.decider.denials.answered == 2

        counts = gate.limiter.statistics
        assert (counts["wide"].allowed, counts["tight"].denied, counts["wide"].near) == (2, 3, 0)
        assert counts["places"].allowed == 2
        assert refused.value.limits == ("tight",)
        assert dict(refused.value.headers)[b"RateLimit"] == b'"tight";r=0;t=60'

    asyncio.run(scenario())


def test_stopping_settles_what_is_being_settled_and_releases_every_place() -> None:
    async def scenario() -> None:
        gate = Gate(places("places", 9), TOKENS)
        over, _running = await gate.admit(), await gate.admit()
        gate.store.there_s = 0.002
        over.end([(b"x-tokens", b"4")])
        stopping = asyncio.ensure_future(gate.limiter.stop())
        await gate.clock.advance(0.01)
        await stopping

        assert (gate.used("tokens"), gate.used("places")) == (14, 0)
        assert gate.limiter.unsettled == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "rule",
    [
        LimitRule(name="l", algorithm=Algorithm.SLIDING_COUNTER, rate=parse_rate("2/hour")),
        LimitRule(name="l", algorithm=Algorithm.TOKEN_BUCKET, rate=parse_rate("1/hour"), burst=2),
        LimitRule(name="l", algorithm=Algorithm.FIXED_WINDOW, rate=parse_rate("2/month")),
        LimitRule(
            name="l", algorithm=Algorithm.FIXED_WINDOW, rate=parse_rate("2/hour"), align=Alignment.FIRST_HIT
        ),
        LimitRule(
            name="l", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("2/hour"), block_us=7_200_000_000
        ),
    ],
    ids=lambda rule: f"{rule.algorithm.value}-{rule.align.value}-{rule.block_us}",
)
def test_every_algorithm_is_a_limit_to_callers(rule: LimitRule) -> None:
    async def scenario() -> None:
        limiter = limiter_of(LimitSpec(rule=rule, any=True))
        remaining = [dict(await ask(limiter))[b"RateLimit"].partition(b";t")[0] for _ in range(2)]
        with pytest.raises(RateLimited):
            await ask(limiter)

        assert remaining == [b'"l";r=1', b'"l";r=0']
        counts = limiter.statistics["l"]
        assert (counts.allowed, counts.denied) == (2, 1)

    asyncio.run(scenario())

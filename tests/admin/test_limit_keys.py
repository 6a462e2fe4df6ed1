"""Single keys of limits: looked at, reset, granted uses, and given rules of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from silence_gateway.admin.contracts import Answer, Ask, Readiness
from silence_gateway.admin.limit_keys import serve_keys
from silence_gateway.admin.local import LocalInstance
from silence_gateway.core.http import Request
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.assembly import limit_engine
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing import FakeClock
from silence_gateway.testing.limiters import local_limiter

KEY = "limits/login/keys/192.0.2.1"


def seconds(text: str) -> float:
    if not text.endswith("s"):
        raise ValueError(f"{text!r} is not a duration")
    return float(text[:-1])


class Desk:
    """An admin API over one limit of two a minute, and its callers."""

    def __init__(self, hub: MemoryHub, clock: FakeClock, key: tuple[str, ...]) -> None:
        self.hub = hub
        self.clock = clock
        self.store = MemoryStore(hub)
        self.engine = limit_engine(self.store, "fleet", clock)
        login = LimitRule(name="login", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("2/minute"))
        places = LimitRule(name="open", algorithm=Algorithm.CONCURRENCY, max=3)
        guess = LimitRule(
            name="guess",
            algorithm=Algorithm.SLIDING_WINDOW,
            rate=parse_rate("2/minute"),
            block_us=600_000_000,
        )
        specs = [
            LimitSpec(rule=login, key=key, any=True),
            LimitSpec(rule=guess, key=key, path="/guess"),
            LimitSpec(rule=places, key=key, path="/open"),
        ]
        self.limiter = Limiter(specs, self.engine.decider, self.engine.holds)
        self.made = LocalInstance(lambda: Readiness("ready"), list)
        serve_keys(self.made, self.limiter, seconds)

    async def ask(self, method: str, path: str = KEY, **query: str) -> Any:
        answer = await self.made.call(Ask(method, path, query, caller="admin API from ::1"))
        assert answer.status == 200, answer.body
        return answer.body

    async def refused(self, method: str, path: str = KEY, **query: str) -> tuple[int, str]:
        answer: Answer = await self.made.call(Ask(method, path, query))
        return answer.status, answer.body["error"]

    async def passes(self, ip: str = "192.0.2.1", path: str = "/", **headers: str) -> bool:
        lines = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        matched = self.limiter.match("GET", path, "")
        assert matched is not None
        try:
            await self.limiter.admit(Request("GET", path, lines, peer=ip), matched)
        except RateLimited:
            return False
        return True


def at_desk(work: Callable[[Desk], Awaitable[None]], *key: str) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        desk = Desk(MemoryHub(clock), clock, key or ("client_ip",))
        await desk.store.start()
        desk.engine.start()
        try:
            await work(desk)
        finally:
            await desk.engine.stop()
            await desk.store.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("key", "path", "headers"),
    [
        pytest.param(("client_ip",), "192.0.2.1", {}, id="one-part-is-plain"),
        pytest.param(("header:x-tenant",), "a%2Cb", {"x_tenant": "a,b"}, id="one-part-decoded"),
        pytest.param(
            ("client_ip", "header:x-tenant"), "192.0.2.1,a%2Cb", {"x_tenant": "a,b"}, id="several-parts"
        ),
        pytest.param(
            ("header:x-tenant", "client_ip"), "a%2Fb,192.0.2.1", {"x_tenant": "a/b"}, id="with-a-slash"
        ),
    ],
)
def test_one_key_can_be_looked_at_reset_granted_uses_and_freed(
    key: tuple[str, ...], path: str, headers: dict[str, str]
) -> None:
    async def work(desk: Desk) -> None:
        place = f"limits/login/keys/{path}"
        assert await desk.passes(**headers)
        state = await desk.ask("GET", place)
        assert (state["limit"], state["remaining"], state["reset_s"]) == (2, 1, 60)
        assert (await desk.ask("DELETE", place))["reset"] is True
        assert (await desk.ask("GET", place))["remaining"] == 2

        assert [await desk.passes(**headers) for _ in range(3)] == [True, True, False]
        assert (await desk.ask("POST", f"{place}/grant", uses="1"))["given_back"] == 1
        assert [await desk.passes(**headers) for _ in range(2)] == [True, False]

        await desk.ask("PUT", place, unlimited="true")
        assert await desk.passes(**headers)
        assert (await desk.ask("DELETE", f"{place}/override"))["removed"] is True
        assert not await desk.passes(**headers)

    at_desk(work, *key)


def test_an_exception_holds_for_its_key_is_listed_and_shown() -> None:
    async def work(desk: Desk) -> None:
        answer = await desk.ask("PUT", rate="5/minute", ttl="60s", reason="a good customer")
        assert answer["key"] == "192.0.2.1"
        assert (answer["override"]["rate"], answer["override"]["by"]) == ("5/minute", "admin API from ::1")
        assert answer["override"]["until_us"] - answer["override"]["added_us"] == 60_000_000
        assert "unlimited" not in answer["override"]

        assert [await desk.passes() for _ in range(6)] == [True] * 5 + [False]
        assert [await desk.passes("192.0.2.2") for _ in range(3)] == [True, True, False]
        state = await desk.ask("GET")
        assert (state["limit"], state["remaining"], state["override"]["reason"]) == (5, 0, "a good customer")
        [listed] = await desk.ask("GET", "limits/login/overrides")
        assert listed == {"key": "192.0.2.1", **answer["override"]}

        await desk.ask("PUT", blocked="true")
        assert not await desk.passes()
        assert (await desk.ask("GET"))["reset_s"] is None, "it is never free again by itself"
        await desk.ask("PUT", blocked="true", ttl="60s")
        assert 0 < (await desk.ask("GET"))["reset_s"] <= 60

    at_desk(work)


def test_a_key_may_be_spelled_as_people_spell_it() -> None:
    """An operator who blocks an address must not find out later that it meant another."""

    async def work(desk: Desk) -> None:
        await desk.ask("PUT", "limits/login/keys/::ffff:192.0.2.1", blocked="true")
        assert not await desk.passes()
        await desk.ask("PUT", "limits/login/keys/2001:DB8::7", blocked="true")
        assert not await desk.passes("2001:db8::1")
        assert await desk.passes("2001:db8:0:1::1")

    at_desk(work)


def test_a_header_with_other_than_ascii_letters_is_found() -> None:
    async def work(desk: Desk) -> None:
        await desk.ask("PUT", "limits/login/keys/%C3%BC,192.0.2.1", blocked="true")
        assert not await desk.passes(x_tenant="\u00fc")
        assert await desk.passes(x_tenant="u")

    at_desk(work, "header:x-tenant", "client_ip")


def test_what_is_given_back_ends_no_block_and_says_so() -> None:
    async def work(desk: Desk) -> None:
        place = "limits/guess/keys/192.0.2.1"
        await desk.ask("PUT", unlimited="true")
        assert [await desk.passes(path="/guess") for _ in range(3)] == [True, True, False]
        answer = await desk.ask("POST", f"{place}/grant", uses="2")
        assert (answer["given_back"], answer["remaining"]) == (2, 0)
        assert not await desk.passes(path="/guess")
        await desk.ask("DELETE", place)
        assert await desk.passes(path="/guess")

    at_desk(work)


def test_a_key_says_whether_one_more_use_passes_and_saying_so_spends_nothing() -> None:
    async def work(desk: Desk) -> None:
        for passes in (True, True, False):
            for _ in range(2):
                state = await desk.ask("GET")
                assert state["allowed"] is passes
            assert await desk.passes() is passes
        assert (state["cost"], state["retry_after_s"]) == (1, 60)
        assert state["verdict"].startswith("one more use is refused; retry after 60 s, at ")
        await desk.clock.advance(59)
        assert (await desk.ask("GET"))["retry_after_s"] == 1
        await desk.clock.advance(1)
        assert (await desk.ask("GET"))["verdict"] == "one more use passes"
        assert (await desk.ask("GET", cost="3"))["verdict"].endswith("; no retry will pass")
        assert (await desk.ask("GET", "limits/open/keys/192.0.2.1"))["verdict"] == "one more at once passes"

    at_desk(work)


def test_looking_at_a_key_begins_no_block_and_tells_of_one() -> None:
    async def work(desk: Desk) -> None:
        place = "limits/guess/keys/192.0.2.1"
        await desk.ask("PUT", unlimited="true")
        assert [await desk.passes(path="/guess") for _ in range(2)] == [True, True]
        for _ in range(2):
            state = await desk.ask("GET", place)
            assert (state["blocked"], state["retry_after_s"]) == (None, 600), "as a caller would be told"
        await desk.clock.advance(60)
        assert (await desk.ask("GET", place))["allowed"], "nobody asked, so nobody is blocked"
        assert [await desk.passes(path="/guess") for _ in range(3)] == [True, True, False]
        await desk.clock.advance(100)
        state = await desk.ask("GET", place)
        assert (state["blocked"]["by"], state["blocked"]["left_s"]) == ("block_for", 500)

    at_desk(work)


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "said"),
    [
        ("PUT", KEY, {}, 400, "say what holds for this key"),
        ("PUT", KEY, {"rate": "often"}, 400, "often"),
        ("PUT", KEY, {"rat": "5/s"}, 400, "rat"),
        ("PUT", KEY, {"max": "-1"}, 400, "max is a whole number"),
        ("PUT", KEY, {"rate": "20/minute", "burst": ""}, 400, "burst is a whole number"),
        ("PUT", KEY, {"burst": "9" * 11}, 400, "burst is a whole number"),
        ("PUT", KEY, {"unlimited": "yes"}, 400, "unlimited is true or false, not 'yes'"),
        ("PUT", KEY, {"blocked": "true", "ttl": "soon"}, 400, "ttl: 'soon' is not a duration"),
        ("PUT", KEY, {"blocked": "true", "unlimited": "true"}, 400, "do not go together"),
        ("PUT", "limits/none/keys/a", {"blocked": "true"}, 404, "there are: login"),
        ("GET", "limits/none/overrides", {}, 404, "there are: login"),
        ("DELETE", f"{KEY}/override", {}, 404, "nothing special holds"),
        ("PUT", "limits/login/keys/999.1.1.1", {"blocked": "true"}, 400, "counts by address"),
        ("GET", "limits/login/keys/2001:db8::%2F48", {}, 400, "2001:db8::/64 as one client"),
        ("GET", KEY, {"cost": "0"}, 400, "a cost is 1 to 1000000, not 0"),
        ("GET", KEY, {"cost": "x"}, 400, "'x' is no whole number"),
        ("GET", "limits/open/keys/192.0.2.1", {"cost": "2"}, 400, "gives places, and a request takes one"),
        ("POST", f"{KEY}/grant", {"uses": "0"}, 400, "at least one"),
        ("POST", f"{KEY}/grant", {"uses": "many"}, 400, "'many' is no whole number"),
        ("POST", "limits/open/keys/192.0.2.1/grant", {"uses": "1"}, 400, "places"),
    ],
)
def test_what_cannot_be_had_is_refused_with_a_reason(
    method: str, path: str, query: dict[str, str], status: int, said: str
) -> None:
    async def work(desk: Desk) -> None:
        told = await desk.refused(method, path, **query)
        assert told[0] == status
        assert said in told[1]
        assert await desk.ask("GET", "limits/login/overrides") == []

    at_desk(work)


def test_while_the_store_is_away_an_exception_holds_here_and_says_so() -> None:
    async def work(desk: Desk) -> None:
        desk.hub.go_away()
        status, said = await desk.refused("PUT", blocked="true")
        assert status == 503
        assert "holds at this instance" in said
        assert not await desk.passes()
        status, said = await desk.refused("DELETE", f"{KEY}/override")
        assert status == 503
        assert "is gone at this instance" in said
        assert await desk.passes()

    at_desk(work)


def test_a_limiter_without_exceptions_still_tells_what_is_left() -> None:
    rule = LimitRule(name="login", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("2/minute"))
    limiter = local_limiter([LimitSpec(rule=rule, key=("client_ip",), any=True)])
    made = LocalInstance(lambda: Readiness("ready"), list)
    serve_keys(made, limiter, seconds)

    state = asyncio.run(made.call(Ask("GET", KEY)))
    put = asyncio.run(made.call(Ask("PUT", KEY, {"blocked": "true"})))

    assert (state.status, state.body["remaining"]) == (200, 2)
    assert put.status == 400

"""
Where calls are decided: what the limits of a middleware and those on its app's routes share.

A call is one request, or one WebSocket. It may be decided about several times: by the middleware, by a
dependency, by a decorator. Each of those is all or nothing by itself; what an earlier one has spent stays
spent when a later one refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from silence_gateway.asgi.key import client_reader
from silence_gateway.asgi.limit_set import LimitSet
from silence_gateway.asgi.protocol import Scope
from silence_gateway.asgi.route_limit import RouteLimit
from silence_gateway.asgi.spent import Spent
from silence_gateway.core.client_address import ProxyWalker
from silence_gateway.core.limit_headers import HeaderForm, LimitHeaders, wait_of
from silence_gateway.core.limits import NEVER, Ask, Decision, LimitRule, refusal_of
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.assembly import LimitEngine
from silence_gateway.limiting.decider import Decider
from silence_gateway.limiting.limit_refused import LimitRefused
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.stores.limits_memory import MemoryLimitStore

MAX_SETS = 1024
"""Sets of rules whose headers are remembered: more than any app has of routes."""

Lines = list[tuple[bytes, bytes]]


class Passed(NamedTuple):
    """
    What a call that may pass has got.

    Attributes:
        rules: The limits that counted it.
        decisions: What each said.
        headers: Writes what its caller is told.
        spent: What it has spent under each, unless that can never be settled.
        holder: Whose places are released when the call is over; empty if it holds none.
    """

    rules: Sequence[LimitRule]
    decisions: Sequence[Decision]
    headers: LimitHeaders
    spent: Sequence[Spent] = ()
    holder: str = ""


class Desk:
    """
    Decides about calls.

    Args:
        limiter: Counts them.
        trusted_proxies: Networks whose forwarding headers are believed.
        form: How callers are told.

    Attributes:
        own: Decides about what concerns one connection alone, which lives in this process.
    """

    def __init__(self, limiter: RateLimiter, trusted_proxies: Iterable[str], form: HeaderForm) -> None:
        self.limiter = limiter
        self.client_of = client_reader(ProxyWalker(trusted_proxies))
        self.form = form
        self.own = Decider(MemoryLimitStore(limiter.clock), limiter.clock, remembers=False)
        self.sets: dict[object, LimitSet] = {}
        self.headers: dict[tuple[str, ...], tuple[Sequence[LimitRule], LimitHeaders]] = {}

    @property
    def engine(self) -> LimitEngine:
        """The limiter's parts, which are new when it is started again."""
        return self.limiter.engine

    def know(self, rule: LimitRule) -> None:
        """
        Declare the rule of a limit in use.

        Raises:
            ValueError: Another one of the same name is in use.
        """
        self.limiter.declare(rule)

    def join(self, limits: Sequence[RouteLimit], *, settled: bool = False) -> LimitSet:
        """
        Return limits as they decide together.

        Raises:
            ValueError: Two have the same name, or the name of another limit.
        """
        names = [limit.rule.name for limit in limits]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two limits here are called {name!r}; give one of them a name=")
        for limit in limits:
            self.know(limit.rule)
            if limit.settle_by:
                self.engine.decider.forgets(limit.rule)
        return LimitSet(limits, self.form, settled=settled)

    def set_of(self, owner: object, limits: Sequence[RouteLimit], *, settled: bool) -> LimitSet:
        """Return the limits that stand on one route, joined when they are first met."""
        joined = self.sets.get(owner)
        if joined is None:
            joined = self.sets[owner] = self.join(limits, settled=settled)
        return joined

    def headers_of(self, rules: Sequence[LimitRule]) -> LimitHeaders:
        """Return what writes the headers of some rules together."""
        names = tuple(rule.name for rule in rules)
        found = self.headers.get(names)
        # Where an exception holds for a key, the rule of that name is another one.
        if found is None or any(rule is not known for rule, known in zip(rules, found[0], strict=True)):
            if len(self.headers) >= MAX_SETS:
                self.headers.clear()
            found = self.headers[names] = (rules, LimitHeaders(rules, self.form))
        return found[1]

    def in_force(
        self, asks: Sequence[Ask], headers: LimitHeaders
    ) -> tuple[Sequence[LimitRule], LimitHeaders]:
        """Return the rules that hold for the keys of *asks*, and what tells of them: *headers*, as a rule."""
        rules = self.engine.decider.rules_in_force(asks)
        if rules is None:
            return [ask.rule for ask in asks], headers
        return rules, LimitHeaders(rules, self.form)

    def explain(self, refused: RateLimited) -> None:
        """Give a refusal by `Limit.acquire` the header lines that one of ours has; harmless for any other."""
        if refused.headers or not isinstance(refused, LimitRefused):
            return
        told: dict[str, tuple[LimitRule, Decision]] = {}
        for rule, decision in refused.decided:
            known = told.get(rule.name)
            # One limit may have been asked about several keys; what refuses for longest is told.
            if known is None or severity(decision) > severity(known[1]):
                told[rule.name] = (rule, decision)
        # Not remembered: the limiter may be another than ours, with other limits of the same names.
        headers = LimitHeaders([rule for rule, _ in told.values()], self.form)
        decisions = [decision for _, decision in told.values()]
        refused.headers = tuple(headers.refused(decisions, refused.retry_after_us))

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Ask the store about one call; it never fails because the store is away."""
        decisions = self.engine.decider.at_once(asks)
        return await self.engine.decider.decide(asks) if decisions is None else decisions

    async def admit(self, scope: Scope, limits: LimitSet) -> Passed:
        """
        Spend what a call costs, and take the places it needs.

        Cancelling this may leave a cost spent; a place is given back.

        Raises:
            RateLimited: At least one limit refuses; nothing was spent.
            TypeError: A function of the app returned what is no key or no cost.
            ValueError: A function of the app returned a cost out of range.
        """
        if limits.quick:
            asks = limits.quick_asks(scope, self.client_of)
            decisions = await self.decide(asks)
            rules, headers = self.in_force(asks, limits.headers)
            judge(asks, decisions, headers)
            return Passed(rules, decisions, headers)
        holds = self.engine.holds
        holder = holds.name()
        found = await limits.asks(scope, self.client_of, holder)
        if not found:
            return Passed((), (), limits.headers)
        asks = [ask for _, ask in found]
        whole = len(found) == len(limits.limits)
        headers = limits.headers if whole else self.headers_of([ask.rule for ask in asks])
        counts = self.engine.decider.counts(asks)
        try:
            decisions = await self.decide(asks)
        except BaseException:
            holds.abandon(asks)
            raise
        rules, headers = self.in_force(asks, headers)
        judge(asks, decisions, headers)
        spent = [
            Spent(ask, decision, limits.costs[index], counts=counts_here and decision.allowed)
            for (index, ask), decision, counts_here in zip(found, decisions, counts, strict=True)
        ]
        holds.hold(holder, [each.ask for each in spent if each.counts])
        held = any(ask.holder for ask in asks)
        return Passed(rules, decisions, headers, spent, holder if held else "")


def severity(decision: Decision) -> tuple[bool, float]:
    """Order decisions by whether they refuse, and for how long."""
    return not decision.allowed, wait_of(decision)


def judge(asks: Sequence[Ask], decisions: Sequence[Decision], headers: LimitHeaders) -> None:
    """
    Let a call pass.

    Raises:
        RateLimited: At least one limit refuses it.
    """
    for decision in decisions:
        if not decision[0]:
            break
    else:
        return
    refusal = refusal_of(asks, decisions)
    if refusal is not None:
        wait_us = refusal.retry_after_us
        wait_s = None if wait_us == NEVER else wait_us / 1_000_000
        raise RateLimited(refusal.limits, wait_s, headers.refused(decisions, wait_us))

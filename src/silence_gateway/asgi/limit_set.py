"""Limits on requests that decide together, made once and asked for every request that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isawaitable

from silence_gateway.asgi.key import ClientOf
from silence_gateway.asgi.protocol import Scope
from silence_gateway.asgi.route_limit import CostOf, Exempt, RouteLimit, settlement_of
from silence_gateway.core.limit_headers import HeaderForm, LimitHeaders
from silence_gateway.core.limits import Ask
from silence_gateway.limiting.cost import MAX_COST


class LimitSet:
    """
    Some limits, in the order in which they are asked and named.

    Args:
        limits: At least one; no two of the same name.
        form: How callers are told.
        settled: The app may say afterwards what a request has cost.

    Attributes:
        quick: Every request costs the same, whoever makes it, and nothing is left to do afterwards.
        costs: How the cost that an answer tells is read, per limit; None where it does not tell.
    """

    __slots__ = ("costs", "headers", "limits", "parts", "quick")

    def __init__(self, limits: Sequence[RouteLimit], form: HeaderForm, *, settled: bool = False) -> None:
        self.limits = tuple(limits)
        self.headers = LimitHeaders([limit.rule for limit in limits], form)
        self.costs = tuple(settlement_of(limit.cost, limit.settle_by) for limit in limits)
        self.parts = [
            (limit.rule, limit.reader.quick, limit.cost)
            for limit, cost in zip(limits, self.costs, strict=True)
            if limit.reader.quick is not None
            and isinstance(limit.cost, int)
            and cost is None
            and limit.exempt is None
            and limit.rule.kind != "c"
        ]
        self.quick = not settled and len(self.parts) == len(self.limits)

    def quick_asks(self, scope: Scope, client_of: ClientOf) -> list[Ask]:
        """Return what to ask the store, where this set is `quick`."""
        return [Ask(rule, read(scope, client_of), cost) for rule, read, cost in self.parts]

    async def asks(self, scope: Scope, client_of: ClientOf, holder: str) -> list[tuple[int, Ask]]:
        """
        Return what to ask the store, each with the place of its limit; those that are exempt are left out.

        Args:
            scope: The request.
            client_of: Finds its client.
            holder: Its name at concurrency limits.

        Raises:
            TypeError: A function of the app returned what is no key or no cost.
            ValueError: A function of the app returned a cost out of range.
        """
        asks = []
        for index, limit in enumerate(self.limits):
            if limit.exempt is not None and await is_exempt(limit.exempt, scope):
                continue
            key = await limit.reader.read(scope, client_of)
            places = limit.rule.kind == "c"
            cost = 1 if places else await cost_of(limit.cost, scope)
            asks.append((index, Ask(limit.rule, key, cost, holder if places else "")))
        return asks


async def is_exempt(exempt: Exempt, scope: Scope) -> bool:
    """Ask the app's function whether a limit is not about this request."""
    said = exempt(scope)
    return bool(await said if isawaitable(said) else said)


async def cost_of(cost: CostOf, scope: Scope) -> int:
    """
    Return what a request spends.

    Raises:
        TypeError: A function returned no number.
        ValueError: A function returned one out of range.
    """
    if isinstance(cost, int):
        return cost
    said = cost(scope)
    return checked_cost(await said if isawaitable(said) else said)


def checked_cost(cost: object) -> int:
    """
    Return a cost that a function of the app has said.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    if not isinstance(cost, int) or isinstance(cost, bool):
        raise TypeError(f"a cost is an int, not {type(cost).__name__}")
    if not 0 <= cost <= MAX_COST:
        raise ValueError(f"a cost is 0 to {MAX_COST}, not {cost}")
    return cost

"""
Limits on single routes: a decorator for their functions, and a dependency for frameworks that have those.

    @app.get("/search")
    @limited("10/second", key="user")
    async def search(query: str) -> list[str]: ...

    @app.post("/reports", dependencies=[Depends(LimitDependency("5/hour", name="reports"))])   # FastAPI
    @post("/reports", guards=[LimitDependency("5/hour", name="reports").guard])                # Litestar

Both need `LimitMiddleware` around the app. They find the request by `call.CURRENT`, so that no function has
to take one as its argument.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, ParamSpec, Protocol, Self, TypeAlias, TypeVar, cast, overload

from silence_gateway.asgi.call import Call, current
from silence_gateway.asgi.key import CLIENT_IP, Key
from silence_gateway.asgi.route_limit import CostOf, Exempt, MessageLimit, RouteLimit, rate_name
from silence_gateway.asgi.spent import Spent, nothing_spent
from silence_gateway.core.rates import parse_rate
from silence_gateway.limiting.limit import Limit

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
OnRoute: TypeAlias = RouteLimit | MessageLimit


class Decorator(Protocol):
    """Makes a function that asks first; it is async, and otherwise looks the same."""

    @overload
    def __call__(
        self, function: Callable[Arguments, Awaitable[Result]], /
    ) -> Callable[Arguments, Coroutine[Any, Any, Result]]: ...

    @overload
    def __call__(
        self, function: Callable[Arguments, Result], /
    ) -> Callable[Arguments, Coroutine[Any, Any, Result]]: ...


class RouteGroup:
    """
    Limits that stand on one route and decide together.

    Args:
        limits: All of them.
        settled: Whoever asks may settle afterwards.

    Attributes:
        requests: Those on requests and handshakes.
        messages: Those on the messages of a WebSocket.
    """

    __slots__ = ("messages", "requests", "settled")

    def __init__(self, limits: Sequence[OnRoute], *, settled: bool = False) -> None:
        self.settled = settled
        self.requests = tuple(limit for limit in limits if isinstance(limit, RouteLimit))
        self.messages = tuple(limit for limit in limits if isinstance(limit, MessageLimit))

    async def admit(self, call: Call) -> Sequence[Spent]:
        """
        Ask about *call*; returns what it has spent that can be settled.

        Raises:
            RateLimited: A limit refuses.
        """
        spent: Sequence[Spent] = ()
        if self.requests:
            limits = call.desk.set_of(self, self.requests, settled=self.settled)
            spent = (await call.admit(limits)).spent
        if self.messages and call.gate is not None:
            await call.gate.add(self, self.messages)
        return spent


def limited(
    *limits: str | Limit | OnRoute,
    key: Key = CLIENT_IP,
    cost: CostOf = 1,
    settle_by: str = "",
    exempt: Exempt | None = None,
    name: str = "",
) -> Decorator:
    """
    Limit the requests that a function serves; write it under the framework's own decorator.

    Several limits decide together. A function that is not async is called in a thread, as its framework
    would. On the function of a WebSocket it is about the handshake; a `MessageLimit` is about what follows.

    Args:
        limits: Rates, declared limits, or ready-made ones for everything that these words cannot say.
        key: As in `RouteLimit`; this and the following are for rates and declared limits.
        cost: As in `RouteLimit`.
        settle_by: As in `RouteLimit`.
        exempt: As in `RouteLimit`.
        name: As in `RouteLimit`; a rate without one is named after the function.

    Raises:
        TypeError: What it stands on is no function that is called once per request.
        ValueError: A value is wrong; the text says which.
    """
    if not limits:
        raise ValueError("say which limit: @limited('100/minute')")
    if name and len(limits) > 1:
        raise ValueError("a name is for one limit; give several theirs in RouteLimit(..., name=...)")
    made = [
        limit
        if isinstance(limit, RouteLimit | MessageLimit)
        else RouteLimit(limit, key=key, cost=cost, settle_by=settle_by, exempt=exempt, name=name)
        for limit in limits
    ]

    def decorate(
        function: Callable[Arguments, Result], /
    ) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
        generates = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
        if generates or not inspect.isroutine(function):
            raise TypeError(f"@limited stands on the function that serves a request, under {ROUTE_FIRST}")
        place = f"{function.__module__}.{function.__qualname__}".replace(".<locals>", "")
        group = RouteGroup([placed(limit, place) for limit in made])
        waits = inspect.iscoroutinefunction(function)

        @functools.wraps(function)
        async def serve(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            await group.admit(current())
            if waits:
                return await cast("Callable[Arguments, Awaitable[Result]]", function)(*args, **kwargs)
            return await asyncio.to_thread(function, *args, **kwargs)

        return serve

    return cast("Decorator", decorate)


ROUTE_FIRST = "the framework's own decorator: @app.get('/') first, then @limited, then the function"


class LimitDependency:
    """
    A limit as a dependency: `Depends(limit)` in FastAPI, `guards=[limit.guard]` in Litestar.

    In any framework, and in the middle of any function that serves a request: `spent = await limit()`.
    Wherever the same one stands, it counts together.

    Args:
        limit: A rate, a declared limit, or a ready-made one.
        key: As in `RouteLimit`; this and the following are for rates and declared limits.
        cost: As in `RouteLimit`.
        settle_by: As in `RouteLimit`.
        exempt: As in `RouteLimit`.
        name: What to call a rate; it cannot be made up, because nobody tells a dependency where it stands.

    Raises:
        ValueError: A rate came without a name, or a value is wrong; the text says which.
    """

    def __init__(
        self,
        limit: str | Limit | OnRoute,
        *,
        key: Key = CLIENT_IP,
        cost: CostOf = 1,
        settle_by: str = "",
        exempt: Exempt | None = None,
        name: str = "",
    ) -> None:
        ready = isinstance(limit, RouteLimit | MessageLimit)
        made: OnRoute = (
            cast("OnRoute", limit)
            if ready
            else RouteLimit(
                cast("str | Limit", limit),
                key=key,
                cost=cost,
                settle_by=settle_by,
                exempt=exempt,
                name=name,
            )
        )
        if isinstance(made.limit, str) and not made.name:
            raise ValueError(f"give this limit of {made.limit} a name: LimitDependency(..., name='search')")
        self.rule = made.rule
        self.group = RouteGroup([placed(made, "")], settled=True)

    async def __call__(self) -> Spent:
        """
        Ask about the request that is being served; returns what it has spent, to be settled if need be.

        Raises:
            RateLimited: It is over the limit; LimitMiddleware makes the answer.
            RuntimeError: There is no LimitMiddleware.
        """
        spent = await self.group.admit(current())
        return spent[0] if spent else nothing_spent(self.rule)

    async def guard(self, _connection: object, _handler: object) -> None:
        """
        Ask, in the shape of a guard of Litestar.

        Raises:
            RateLimited: It is over the limit.
            RuntimeError: There is no LimitMiddleware.
        """
        await self()

    def __deepcopy__(self, _memo: object) -> Self:
        # Litestar copies what it registers; a limit is one, however often it stands somewhere.
        return self


def placed(limit: OnRoute, place: str) -> OnRoute:
    """
    Return a limit as it stands on a route: named after it, if it has no name.

    Raises:
        ValueError: It says on which paths it applies, which is for the middleware to ask.
    """
    if limit.path is not None or limit.methods:
        raise ValueError("a limit on a route applies there; path and methods are for LimitMiddleware")
    if not isinstance(limit.limit, str) or limit.name:
        return limit
    return replace(limit, name=rate_name([place], parse_rate(limit.limit), limit.reader))

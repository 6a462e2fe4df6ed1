"""
One call, from its beginning to its end: what it has spent, what its caller is told, how it was refused.

The call that is being served is `CURRENT`, so that a decorator or a dependency finds it without being
handed a request, in whatever framework it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

from silence_gateway.asgi.desk import Desk, Lines, Passed
from silence_gateway.asgi.limit_set import LimitSet
from silence_gateway.asgi.message_gate import MessageGate
from silence_gateway.asgi.protocol import Scope
from silence_gateway.asgi.spent import Spent
from silence_gateway.core.limits import Change
from silence_gateway.errors import RateLimited

CURRENT: ContextVar[Call] = ContextVar("silence_gateway_call")

NO_MIDDLEWARE = (
    "limits on routes need LimitMiddleware around them: it starts the limiter and writes the answers; "
    "app.add_middleware(LimitMiddleware, limiter=limiter), or app = LimitMiddleware(app, limiter=limiter)"
)


class Call:
    """
    One request, or one WebSocket.

    Attributes:
        refused: Why it may not go on, once a limit has said so.
        gate: Limits on the messages of a WebSocket; None for a request.
        headed: The head of its answer is out, so that nothing more can be told.
        told: The header lines of its answer, trailers included, for costs that they tell.
    """

    __slots__ = (
        "desk",
        "gate",
        "headed",
        "holders",
        "over",
        "passed",
        "refused",
        "scope",
        "spent",
        "told",
    )

    def __init__(self, scope: Scope, desk: Desk, gate: MessageGate | None = None) -> None:
        self.scope = scope
        self.desk = desk
        self.gate = gate
        self.refused: RateLimited | None = None
        self.passed: list[Passed] = []
        self.spent: list[Spent] = []
        self.holders: list[str] = []
        self.told: Lines = []
        self.headed = False
        self.over = False

    async def admit(self, limits: LimitSet) -> Passed:
        """
        Ask *limits* about this call.

        Raises:
            RateLimited: They refuse.
        """
        try:
            passed = await self.desk.admit(self.scope, limits)
        except RateLimited as refused:
            self.refused = refused
            raise
        if passed.decisions and not self.headed:
            self.passed.append(passed)
        for spent in passed.spent:
            spent.on_settle = self.settle
            if spent.cost is not None:
                self.settle(spent)
        if passed.holder:
            self.holders.append(passed.holder)
            if self.over:
                self.release()
        return passed

    def lines(self) -> Lines:
        """Return the header lines that tell the caller what is left, names in lower case as ASGI wants."""
        passed = self.passed
        if not passed:
            return []
        if len(passed) == 1:
            [one] = passed
            lines = one.headers.allowed(one.decisions)
        else:
            # A limit that was asked twice is told as it was last.
            last = {
                rule.name: (rule, decision)
                for each in passed
                for rule, decision in zip(each.rules, each.decisions, strict=True)
            }
            headers = self.desk.headers_of([rule for rule, _ in last.values()])
            lines = headers.allowed([decision for _, decision in last.values()])
        return lowered(lines)

    def settle(self, spent: Spent) -> None:
        """Settle *spent* when the call is over; what an app says after the head of its answer, at once."""
        if self.over or (self.headed and spent.real is not None):
            self.send([spent])
        elif spent not in self.spent:
            self.spent.append(spent)

    def end(self) -> None:
        """The call is over: release what it holds and settle what it cost. Harmless when it was already."""
        self.over = True
        if self.holders:
            self.release()
        if self.spent:
            spent, self.spent = self.spent, []
            self.send(spent)

    def send(self, spent: Sequence[Spent]) -> None:
        """Hand to the store what settles *spent*."""
        changes: list[Change] = []
        for each in spent:
            changes += each.changes(self.told)
        if changes:
            self.desk.engine.settling.send(changes)

    def release(self) -> None:
        """Release every place."""
        holders, self.holders = self.holders, []
        for holder in holders:
            self.desk.engine.holds.release(holder)


def lowered(lines: Lines) -> Lines:
    """Return header lines with names in lower case."""
    return [(name.lower(), value) for name, value in lines]


def current() -> Call:
    """
    Return the call that is being served.

    Raises:
        RuntimeError: There is no middleware around who asks.
    """
    call = CURRENT.get(None)
    if call is None:
        raise RuntimeError(NO_MIDDLEWARE)
    return call

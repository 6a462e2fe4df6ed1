"""
The messages of one WebSocket, let through as its limits allow.

A message that waits is kept here: whoever stops waiting for it (a time-out around `receive`, say) gets it
the next time. While one waits nothing is read from that client, so its own TCP connection holds it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import count

from silence_gateway.asgi.desk import Desk
from silence_gateway.asgi.limit_set import checked_cost, is_exempt
from silence_gateway.asgi.protocol import CONNECTION, Message, Receive, Scope
from silence_gateway.asgi.route_limit import MessageLimit, OnExcess
from silence_gateway.core.limits import NEVER, Ask, Decision, refusal_of
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.limit import WAIT_MARGIN_S

numbers = count(1)


class Verdict(Enum):
    """What becomes of a message."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    DROP = "drop"


class MessageGate:
    """
    Lets the messages of one WebSocket through.

    Attributes:
        dropped: Messages that were thrown away.
    """

    __slots__ = ("desk", "dropped", "keys", "limits", "own", "owners", "scope", "waiting")

    def __init__(self, scope: Scope, desk: Desk) -> None:
        scope[CONNECTION] = next(numbers)
        self.scope = scope
        self.desk = desk
        self.limits: list[MessageLimit] = []
        self.keys: list[str] = []
        self.owners: set[object] = set()
        self.own = True
        self.waiting: Message | None = None
        self.dropped = 0

    async def add(self, owner: object, limits: Sequence[MessageLimit]) -> None:
        """
        Limit messages from now on; harmless when *owner* has added its limits before.

        Raises:
            TypeError: A function of the app returned what is no key.
            ValueError: A limit has the name of another one.
        """
        if owner in self.owners:
            return
        self.owners.add(owner)
        for limit in limits:
            if limit.exempt is not None and await is_exempt(limit.exempt, self.scope):
                continue
            self.desk.know(limit.rule)
            key = await limit.reader.read(self.scope, self.desk.client_of)
            known = [(each.rule.name, whom) for each, whom in zip(self.limits, self.keys, strict=True)]
            if (limit.rule.name, key) in known:
                # It stands in two places, and a message is one message.
                continue
            self.limits.append(limit)
            self.keys.append(key)
            self.own = self.own and limit.reader.own

    async def receive(self, inner: Receive) -> Message:
        """
        Return the next message that may pass, or whatever else *inner* hands over.

        Cancelling this loses no message; one that was being decided about may be counted twice.

        Raises:
            RateLimited: A message is over its limit, and that closes the connection.
        """
        while True:
            message = self.waiting
            if message is None:
                message = await inner()
                if message["type"] != "websocket.receive" or not self.limits:
                    return message
                self.waiting = message
            verdict = await self.judge(message)
            self.waiting = None
            if verdict is Verdict.PASS:
                return message
            self.dropped += 1

    async def judge(self, message: Message) -> Verdict:
        """
        Say what becomes of *message*; waits where it has to wait.

        Raises:
            RateLimited: It closes the connection.
            TypeError: A function of the app returned no cost.
            ValueError: A function of the app returned a cost out of range.
        """
        text = message.get("text")
        payload: str | bytes = message.get("bytes") or b"" if text is None else text
        asks = [
            Ask(
                limit.rule,
                key,
                limit.cost if isinstance(limit.cost, int) else checked_cost(limit.cost(payload)),
            )
            for limit, key in zip(self.limits, self.keys, strict=True)
        ]
        clock = self.desk.limiter.clock
        began_s = clock.monotonic_s()
        while True:
            decisions = await self.decide(asks)
            refusal = refusal_of(asks, decisions)
            if refusal is None:
                return Verdict.PASS
            wait_s = None if refusal.retry_after_us == NEVER else refusal.retry_after_us / 1_000_000
            refusing = [limit for limit in self.limits if limit.rule.name in refusal.limits]
            ways = {limit.on_excess for limit in refusing}
            if OnExcess.CLOSE in ways:
                raise RateLimited(refusal.limits, wait_s)
            if OnExcess.DROP in ways:
                return Verdict.DROP
            most_s = min(limit.max_wait_s for limit in refusing)
            if wait_s is None or clock.monotonic_s() - began_s + wait_s > most_s:
                raise RateLimited(refusal.limits, wait_s)
            await clock.sleep(wait_s + WAIT_MARGIN_S)

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Ask the store, or only this process where every limit is about this connection alone."""
        if self.own:
            return await self.desk.own.decide(asks)
        return await self.desk.decide(asks)

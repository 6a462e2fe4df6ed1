"""
Asking sentinels and clusters who is who: the one file that knows redis-py.

Which server is the primary, and which shard has which slots, is asked now and then and off the request
path, so a well-kept client does it: redis-py, with nothing of its own that could surprise. No retries
(we have our own pace), no maintenance notifications (they switch off the check for unread replies, and
servers that are not Redis Enterprise have none), RESP2, one connection per node asked, closed again
after a while. What is decided per request travels on `client.py`, which costs a tenth of the time
(`bench/store_calls.py`).
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from silence_gateway.core.slots import SLOTS
from silence_gateway.core.store_failover import Fault, fault_of_reply
from silence_gateway.stores.client import Login, StoreRefused
from silence_gateway.stores.cluster import SlotRange
from silence_gateway.stores.url import Node

T = TypeVar("T")


class TlsConnection(Connection):
    """A connection of redis-py over a context of ours, which is current when it connects."""

    def __init__(self, *, context: ssl.SSLContext, server_name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.context = context
        self.server_name = server_name

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments = dict(super()._connection_arguments())
        arguments["ssl"] = self.context
        if self.server_name:
            arguments["server_hostname"] = self.server_name
        return arguments


class Directory:
    """
    Asks nodes, one after the other, until one of them answers.

    Args:
        login: Returns who we are to them.
        context: Returns the TLS context for a new connection, or None for a plain one.
        server_name: The name that their certificates hold, where that is not the host.
        deadline_s: How long one node may take.

    Attributes:
        asked: How many nodes were asked.
    """

    def __init__(
        self,
        login: Callable[[], Login],
        context: Callable[[], Awaitable[ssl.SSLContext | None]],
        *,
        server_name: str = "",
        deadline_s: float,
    ) -> None:
        self.login = login
        self.context = context
        self.server_name = server_name
        self.deadline_s = deadline_s
        self.asked = 0

    async def primary(self, sentinels: Sequence[Node], service: str) -> Node:
        """
        Return the address of the primary that the sentinels know as *service*.

        Raises:
            StoreRefused: None of them answers, or none knows it.
        """

        async def ask(client: Any, _node: Node) -> Node | None:
            found = await client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", service)
            return Node(text(found[0]), int(found[1])) if found else None

        return await self.first(sentinels, ask, f"no sentinel knows a service {service!r}")

    async def slots(self, nodes: Iterable[Node]) -> list[SlotRange]:
        """
        Return who has which slots, by the first node that answers; they are asked in random order.

        Raises:
            StoreRefused: None of them answers.
        """
        shuffled = list(nodes)
        random.shuffle(shuffled)  # a fleet that always asked the first node would be its undoing

        async def ask(client: Any, node: Node) -> list[SlotRange] | None:
            reply = await client.execute_command("CLUSTER SLOTS")
            ranges = read_slots(reply, node)
            return ranges or None

        return await self.first(shuffled, ask, "no node of the cluster serves any slot")

    async def first(
        self, nodes: Sequence[Node], ask: Callable[[Any, Node], Awaitable[T | None]], nothing: str
    ) -> T:
        """
        Return the first answer that is one.

        Raises:
            StoreRefused: There is none.
        """
        troubles: list[StoreRefused] = []
        for node in nodes:
            self.asked += 1
            try:
                async with asyncio.timeout(self.deadline_s):
                    client = await self.client(node)
                    try:
                        answer = await ask(client, node)
                    finally:
                        await client.aclose()
            except (RedisError, OSError, TimeoutError) as exc:
                troubles.append(trouble(node, exc))
                continue
            if answer is not None:
                return answer
        if not troubles:
            raise StoreRefused(Fault.UNREACHABLE, nothing)
        # One that knows us not, or is not trusted, tells more than many that do not answer.
        worst = next((each for each in troubles if each.fault is not Fault.UNREACHABLE), troubles[0])
        raise worst

    async def client(self, node: Node) -> redis.asyncio.Redis:
        """Return a client of one node, which has not connected yet."""
        login, context = self.login(), await self.context()
        kwargs: dict[str, Any] = {
            "host": node.host,
            "port": node.port,
            "username": login.username or None,
            "password": login.password or None,
            "socket_timeout": self.deadline_s,
            "socket_connect_timeout": self.deadline_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "max_connections": 1,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        if context is not None:
            kwargs |= {
                "connection_class": TlsConnection,
                "context": context,
                "server_name": self.server_name,
            }
        pool = redis.asyncio.ConnectionPool(**kwargs)
        return redis.asyncio.Redis.from_pool(pool)


def read_slots(reply: Any, asked: Node) -> list[SlotRange]:
    """Read the answer of CLUSTER SLOTS; a node without an address is the one that was asked."""
    ranges = []
    for first, last, primary, *_replicas in reply:
        host = text(primary[0]) if primary[0] else ""
        node = Node(host, int(primary[1])) if host and host != "?" else Node(asked.host, int(primary[1]))
        if 0 <= int(first) <= int(last) < SLOTS:
            ranges.append(SlotRange(int(first), int(last), node))
    return ranges


def text(value: Any) -> str:
    """Return a reply as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def trouble(node: Node, exc: BaseException) -> StoreRefused:
    """Say in our words what went wrong with *node*."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StoreRefused(Fault.UNTRUSTED, f"{node} is not trusted: {cause.verify_message}")
    if isinstance(cause, ssl.SSLError):
        return StoreRefused(Fault.UNTRUSTED, f"{node}: TLS failed: {cause.reason or cause}")
    if isinstance(exc, AuthenticationError):
        return StoreRefused(Fault.CREDENTIALS, f"{node}: {exc}")
    if isinstance(exc, ResponseError):
        return StoreRefused(fault_of_reply(str(exc)), f"{node}: {exc}")
    return StoreRefused(Fault.UNREACHABLE, f"{node} cannot be asked: {exc or type(exc).__name__}")

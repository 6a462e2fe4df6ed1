"""
Asking sentinels and clusters who is who: the one file that knows redis-py.

Which server is the primary, and which shard has which slots, is asked now and then and off the request
path, so a well-kept client does it: redis-py, with nothing of its own that could surprise. No retries
(we have our own pace), no maintenance notifications (they switch off the check for unread replies, and
servers that are not Redis Enterprise have none), RESP2, one connection per node asked, kept for the next
question for a few seconds. What is decided per request travels on `client.py`, which costs a tenth of the
time (`bench/store_calls.py`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
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
from silence_gateway.stores.tls import distrust
from silence_gateway.stores.url import Node

T = TypeVar("T")

# One node has so long to answer before the next is asked as well: one that hangs costs no more than that.
HEAD_START_S = 0.05
# While something is wrong there is a question every quarter of a second; then none for a long time.
KEPT_S = 5.0


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
    Asks nodes who is who.

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
        self.clients: dict[Node, redis.asyncio.Redis] = {}
        self.idle: asyncio.TimerHandle | None = None
        self.closing: set[asyncio.Task[None]] = set()

    # -- questions ------------------------------------------------------------------------------------

    async def primary(self, sentinels: Sequence[Node], service: str) -> Node:
        """
        Return the address of the primary that most of the sentinels know as *service*.

        One that was cut off from the others still names the one before. So all are asked at once, and what
        more than half of them say is true; if not so many answer, what most of those say.

        Raises:
            StoreRefused: None of them answers, or none knows it.
        """

        async def ask(node: Node) -> Node | None:
            found = await self.ask(node, "SENTINEL GET-MASTER-ADDR-BY-NAME", service)
            return None if not found else Node(text(found[0]), int(found[1]))

        votes: Counter[Node] = Counter()
        troubles: list[StoreRefused] = []
        questions = {asyncio.ensure_future(self.answer(node, ask)) for node in sentinels}
        try:
            for question in asyncio.as_completed(questions):
                answer = await question
                if isinstance(answer, StoreRefused):
                    troubles.append(answer)
                elif answer is not None:
                    votes[answer] += 1
                    if votes[answer] > len(sentinels) / 2:
                        return answer
        finally:
            await end(questions)
        if votes:
            return votes.most_common(1)[0][0]
        raise worst(troubles, f"no sentinel knows a service {service!r}")

    async def slots(self, nodes: Iterable[Node]) -> list[SlotRange]:
        """
        Return who has which slots, by the first node that answers.

        Raises:
            StoreRefused: None of them answers.
        """

        async def ask(node: Node) -> list[SlotRange] | None:
            return read_slots(await self.ask(node, "CLUSTER SLOTS"), node) or None

        waiting = list(nodes)
        troubles: list[StoreRefused] = []
        questions: set[asyncio.Future[list[SlotRange] | StoreRefused | None]] = set()
        try:
            while waiting or questions:
                if waiting:
                    questions.add(asyncio.ensure_future(self.answer(waiting.pop(0), ask)))
                done, questions = await asyncio.wait(
                    questions,
                    timeout=HEAD_START_S if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for answer in (question.result() for question in done):
                    if isinstance(answer, StoreRefused):
                        troubles.append(answer)
                    elif answer is not None:
                        return answer
        finally:
            await end(questions)
        raise worst(troubles, "no node of the cluster serves any slot")

    # -- nodes ----------------------------------------------------------------------------------------

    async def answer(self, node: Node, ask: Callable[[Node], Awaitable[T | None]]) -> T | StoreRefused | None:
        """Ask one node, in time; what goes wrong is an answer, too."""
        self.asked += 1
        try:
            async with asyncio.timeout(self.deadline_s):
                return await ask(node)
        except StoreRefused as exc:
            return exc
        except (RedisError, OSError, TimeoutError) as exc:
            refused = trouble(node, exc)
        except (ValueError, TypeError, LookupError) as exc:
            refused = StoreRefused(Fault.UNREACHABLE, f"{node} says what nobody understands: {exc!r:.100}")
        # Whatever broke, the next question has a connection of its own, with what is current then.
        self.close_later(self.clients.pop(node, None))
        return refused

    async def ask(self, node: Node, *command: str) -> Any:
        """Send one command to *node*, on the connection from the last time if there is one."""
        client = self.clients.get(node)
        if client is None:
            client = self.clients[node] = await self.client(node)
        if self.idle is not None:
            self.idle.cancel()
        self.idle = asyncio.get_running_loop().call_later(KEPT_S, self.let_go)
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]

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
            # Else redis-py reads its own version from the disk for every connection, to tell the server.
            "driver_info": None,
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

    # -- letting go -----------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Nobody has asked for a while: close what is open."""
        self.idle = None
        for client in self.clients.values():
            self.close_later(client)
        self.clients.clear()

    def close_later(self, client: redis.asyncio.Redis | None) -> None:
        """Close one client; nobody waits for it."""
        if client is not None:
            task = asyncio.get_running_loop().create_task(client.aclose())
            self.closing.add(task)
            task.add_done_callback(self.closing.discard)

    async def close(self) -> None:
        """Close everything."""
        if self.idle is not None:
            self.idle.cancel()
        self.let_go()
        await asyncio.gather(*self.closing, return_exceptions=True)


async def end(questions: Iterable[asyncio.Future[Any]]) -> None:
    """Have nobody answer any more."""
    for question in questions:
        question.cancel()
    await asyncio.gather(*questions, return_exceptions=True)


def read_slots(reply: Any, asked: Node) -> list[SlotRange]:
    """
    Read the answer of CLUSTER SLOTS; a node without an address is the one that was asked.

    Raises:
        ValueError, TypeError, LookupError: It is no such answer.
    """
    ranges = []
    for first, last, primary, *_replicas in reply:
        host = text(primary[0]) if primary[0] else ""
        node = Node(host if host and host != "?" else asked.host, int(primary[1]))
        if 0 <= int(first) <= int(last) < SLOTS:
            ranges.append(SlotRange(int(first), int(last), node))
    return ranges


def text(value: Any) -> str:
    """Return a reply as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def worst(troubles: Sequence[StoreRefused], nothing: str) -> StoreRefused:
    """Choose what to tell: one that knows us not, or is not trusted, tells more than many that are silent."""
    told = [each for each in troubles if each.fault is not Fault.UNREACHABLE] or troubles
    return told[0] if told else StoreRefused(Fault.UNREACHABLE, nothing)


def trouble(node: Node, exc: BaseException) -> StoreRefused:
    """Say in our words what went wrong with *node*."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLError):
        return StoreRefused(Fault.UNTRUSTED, f"{node} {distrust(cause)}")
    if isinstance(exc, AuthenticationError):
        return StoreRefused(Fault.CREDENTIALS, f"{node}: {exc}")
    if isinstance(exc, ResponseError):
        return StoreRefused(fault_of_reply(str(exc)), f"{node}: {exc}")
    return StoreRefused(Fault.UNREACHABLE, f"{node} cannot be asked: {exc or type(exc).__name__}")

"""
Getting in: open a connection, log in, and see that it leads where it should.

No retry, no notifications, no HELLO: RESP2 says all that we need, and every server speaks it. Whatever goes
wrong is a `StoreRefused` that names the server and what to do, and never a password.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from silence_gateway.core.store_failover import Fault, fault_of_reply
from silence_gateway.stores.client import Command, Login, ReplyError, StoreRefused, Wire, ignore, pack
from silence_gateway.stores.tls import distrust
from silence_gateway.stores.url import Node


async def dial(
    node: Node,
    login: Login,
    *,
    deadline_s: float,
    client_name: str,
    database: int = 0,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
    primary: bool = False,
) -> Wire:
    """
    Open a connection to *node* and log in; with *primary*, make sure that it is one.

    Raises:
        StoreRefused: It did not work within *deadline_s*.
    """
    loop = asyncio.get_running_loop()
    wire = Wire()
    # It listens before there is a connection: a server that is full says so, and hangs up, at once.
    entrance = Entrance(wire, node, primary=primary)
    try:
        async with asyncio.timeout(deadline_s):
            if node.path:
                await loop.create_unix_connection(lambda: wire, node.path)
            elif tls is None:
                await loop.create_connection(lambda: wire, node.host, node.port)
            else:
                await loop.create_connection(
                    lambda: wire, node.host, node.port, ssl=tls, server_hostname=server_name or node.host
                )
            await entrance.pass_through(login, database, client_name)
    except TimeoutError:
        drop(wire)
        doubt = ": does it speak TLS on this port?" if tls is not None and wire.transport is None else ""
        raise StoreRefused(
            Fault.UNREACHABLE, f"{node} did not answer within {deadline_s:g} s{doubt}"
        ) from None
    except ssl.SSLError as exc:
        drop(wire)
        raise StoreRefused(Fault.UNTRUSTED, f"{node} {distrust(exc)}") from exc
    except (OSError, UnicodeError) as exc:  # a name that no resolver takes is a UnicodeError
        drop(wire)
        raise StoreRefused(Fault.UNREACHABLE, f"{node} cannot be reached: {exc}") from exc
    except BaseException:
        drop(wire)
        raise
    return wire


def drop(wire: Wire) -> None:
    """Close a connection that came to nothing."""
    wire.on_reply, wire.on_lost = ignore, ignore
    wire.close("gave up")


class Entrance:
    """Everything that a new connection is asked, in one write, and what it answers."""

    def __init__(self, wire: Wire, node: Node, *, primary: bool) -> None:
        self.wire = wire
        self.node = node
        self.primary = primary
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.replies: list[Any] = []
        self.expected = 0
        wire.on_reply, wire.on_lost = self.on_reply, self.on_lost

    def on_reply(self, reply: Any) -> None:
        """Keep it; all of them are looked at together."""
        self.replies.append(reply)
        if len(self.replies) == self.expected and not self.done.done():
            self.done.set_result(None)

    def on_lost(self, reason: str) -> None:
        """The server hung up."""
        fault, text = Fault.UNREACHABLE, f"{self.node}: {reason}"
        if self.wire.distrust is not None:
            # With TLS 1.3 a client learns only now that its certificate is missed or not liked.
            fault, text = Fault.UNTRUSTED, f"{self.node} {distrust(self.wire.distrust)}"
        if not self.done.done():
            self.done.set_exception(StoreRefused(fault, text))
            self.done.exception()  # nobody may be waiting yet

    async def pass_through(self, login: Login, database: int, client_name: str) -> None:
        """
        Log in, choose the database, and say who we are.

        Raises:
            StoreRefused: The server said no, is no primary though it should be, or hung up.
        """
        commands: list[Command] = []
        if login.username:
            commands.append((b"AUTH", login.username, login.password))
        elif login.password:
            commands.append((b"AUTH", login.password))
        if database:
            commands.append((b"SELECT", database))
        commands.append((b"PING",))
        needed = len(commands)
        # From here on an ACL may forbid what we ask, and that is no reason not to go on.
        if self.primary:
            commands.append((b"ROLE",))
        commands.append((b"CLIENT", b"SETNAME", client_name))
        self.expected = len(commands)
        self.wire.write(b"".join(pack(command) for command in commands))
        with contextlib.suppress(StoreRefused):
            await self.done
        for reply in self.replies[:needed]:
            if isinstance(reply, ReplyError):
                raise StoreRefused(fault_of_reply(str(reply)), f"{self.node}: {reply}")
        self.done.result()
        role = self.replies[needed]
        if self.primary and type(role) is list and role and role[0] != b"master":
            raise StoreRefused(Fault.WRONG_ROLE, f"{self.node} is no primary any more")
        self.wire.on_reply, self.wire.on_lost = ignore, ignore

"""
How a connection to a store's server is made: where, as whom, how safely, and how often.

One `Dialer` per store. Whatever lane asks, it sees to credentials (read anew each time, so that a
changed password takes effect on the next connection) and TLS (files read anew when they change). And a
`Pace` per server: after an outage a whole fleet comes back at once, and no process of it may knock more
than twice a second.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.store_failover import Fault
from silence_gateway.errors import ConfigError
from silence_gateway.stores import keys
from silence_gateway.stores.client import Login, StoreRefused, Wire
from silence_gateway.stores.entrance import dial
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.tls import TlsContexts, stamp
from silence_gateway.stores.url import Node

RECONNECTS_PER_SPAN = 2
SPAN_S = 1.0
# A span is longer by up to this part of itself, drawn each time: a fleet that lost its store at one moment
# knocks in step once, and then no more.
SPREAD = 0.4
MARGIN_S = 0.005
# What broke at the same moment for everybody is mended within this time, not at the same moment again.
JITTER_S = 0.02
# The kinds of lanes, in the order in which they get new connections.
HOT: Final = "hot"
GENERAL: Final = "general"
SUBSCRIBER: Final = "subscriber"
PROBE: Final = "probe"
ORDER = (HOT, GENERAL, SUBSCRIBER, PROBE)
WHILE_AWAY = (PROBE, HOT)
MAX_PASSWORD_BYTES = 4096
# Of a connection, from name resolution to login.
TRIPS = 4
LONGEST_S = 2.0


class Pace:
    """
    At most two connections per second to one server; the first of each lane are free.

    A fleet that starts is spread by whoever starts it; one that reconnects is spread by nobody but this.
    A server that joins later is met by the whole fleet at one moment, so there the first ones count as well:
    the hot lane and the probe go at once, the others when there is room.

    Lanes that lost their connections together get new ones in the order of `ORDER`. While the server is
    known to be away only the probe and the hot lane go, and of the two the probe has at most one: what it
    finds healthy is of use only when the hot lane may follow at once.

    Args:
        clock: What a second is.
        draw: Returns a random number in [0, 1), for waits.
        joins: Whether the server joins a store that is in use.

    Attributes:
        away: Whether the server is known to be away.
    """

    def __init__(self, clock: Clock, draw: Callable[[], float], *, joins: bool = False) -> None:
        self.clock = clock
        self.draw = draw
        self.joins = joins
        self.made: list[tuple[float, str]] = []  # until when each counts, and the kind of its lane
        self.first: set[str] = set()
        self.away = False
        self.waiting: list[tuple[str, asyncio.Future[None]]] = []
        self.timer: Timer | None = None
        self.due_s = 0.0

    async def wait(self, lane: str) -> None:
        """Return when *lane* may connect; who is cancelled loses nothing but its place."""
        if lane not in self.first:
            self.first.add(lane)
            if not self.joins:
                return
            if kind_of(lane) in WHILE_AWAY:
                self.made.append((self.until_s(self.clock.monotonic_s()), kind_of(lane)))
                return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append((kind_of(lane), turn))
        self.look_later()
        await turn

    def set_away(self, away: bool) -> None:
        """The server is known to be away, or is back."""
        self.away = away
        self.look_later()

    def begin_anew(self, on_their_way: Iterable[str] = ()) -> None:
        """It is another server from now on; only lanes *on_their_way* have been let go to it."""
        now_s = self.clock.monotonic_s()
        self.made = [(self.until_s(now_s), kind_of(lane)) for lane in on_their_way]
        self.look_later()

    def until_s(self, now_s: float) -> float:
        """Return until when a connection that is begun now counts."""
        return now_s + SPAN_S * (1 + SPREAD * self.draw())

    def free_s(self, kind: str) -> float:
        """Return when a lane of *kind* may connect."""
        until_s = sorted(each for each, _ in self.made)
        free_s = until_s[-RECONNECTS_PER_SPAN] if len(until_s) >= RECONNECTS_PER_SPAN else 0.0
        if kind == PROBE:
            free_s = max([free_s, *(each for each, other in self.made if other == PROBE)])
        return free_s

    def look_later(self) -> None:
        """Look when the next may go; a moment later, because others of the fleet wait for the same."""
        due_s = min(map(self.free_s, self.eligible()), default=None)
        if due_s is None or (self.timer is not None and due_s >= self.due_s):
            return
        if self.timer is not None:
            self.timer.cancel()
        self.due_s = due_s
        wait_s = max(0.0, due_s - self.clock.monotonic_s()) + MARGIN_S + self.draw() * JITTER_S
        self.timer = self.clock.call_later(wait_s, self.look)

    def eligible(self) -> list[str]:
        """Return the kinds of lanes that may go as soon as there is room, most urgent first."""
        order = WHILE_AWAY if self.away else ORDER
        return [kind for kind in order if any(waits == kind for waits, _ in self.waiting)]

    def look(self) -> None:
        """Let in who may."""
        self.timer = None
        now_s = self.clock.monotonic_s()
        self.waiting = [one for one in self.waiting if not one[1].done()]
        self.made = [one for one in self.made if one[0] > now_s]
        for kind in self.eligible():
            if self.free_s(kind) <= now_s:
                one = next(one for one in self.waiting if one[0] == kind)
                self.waiting.remove(one)
                self.made.append((self.until_s(now_s), kind))
                one[1].set_result(None)
        self.look_later()


def kind_of(lane: str) -> str:
    """Return the kind of a lane, by its name."""
    return lane.rpartition("/")[2]


class Credentials:
    """
    Who we are to the store: from its address, or with a password that is in a file.

    Attributes:
        username: ACL user, or empty.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self.username = settings.address.username
        self.password = settings.address.password
        self.file: Path | None = settings.password_file

    def current(self) -> Login:
        """
        Return what to log in with now.

        Raises:
            StoreRefused: The file cannot be read.
        """
        if self.file is None:
            return Login(self.username, self.password)
        try:
            with self.file.open("rb") as file:
                password = file.read(MAX_PASSWORD_BYTES).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            said = getattr(exc, "strerror", None) or exc
            raise StoreRefused(
                Fault.CREDENTIALS, f"store.password_file: {self.file} cannot be read: {said}"
            ) from exc
        return Login(self.username, password)


class Dialer:
    """
    Makes the connections of one store.

    Attributes:
        tls: Where contexts come from; None for plain connections.
    """

    def __init__(
        self,
        settings: StoreSettings,
        clock: Clock,
        draw: Callable[[], float],
        *,
        fleet: str,
        instance_id: str,
    ) -> None:
        self.settings = settings
        self.address = settings.address
        self.credentials = Credentials(settings)
        self.tls = TlsContexts(settings.tls) if self.address.tls else None
        self.clock = clock
        self.draw = draw
        self.fleet = fleet
        self.instance_id = instance_id

    @property
    def deadline_s(self) -> float:
        """
        How long making one connection may take.

        A TLS handshake has two more trips and some arithmetic. Where calls may take long because the store
        is far away, so may the trips of a new connection.
        """
        patience_s = max(self.settings.connect_deadline_s, min(TRIPS * self.settings.deadline_s, LONGEST_S))
        return patience_s * (2 if self.address.tls else 1)

    async def context(self) -> ssl.SSLContext | None:
        """
        Return the TLS context for a new connection; the files are read off the event loop.

        Raises:
            StoreRefused: A file cannot be used.
        """
        if self.tls is None:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self.tls.current)
        except ConfigError as exc:
            raise StoreRefused(Fault.UNTRUSTED, str(exc)) from exc

    def pace(self, *, joins: bool = False) -> Pace:
        """Return how often one more server may be knocked at, which may *join* a store that is in use."""
        return Pace(self.clock, self.draw, joins=joins)

    async def open(self, node: Node, lane: str, *, primary: bool = False) -> Wire:
        """
        Connect *lane* to *node* and log in; with *primary* a server that is none is refused.

        Raises:
            StoreRefused: It did not work; the text names the server, never the password.
        """
        return await dial(
            node,
            self.credentials.current(),
            database=self.address.database,
            tls=await self.context(),
            server_name=self.settings.tls.server_name,
            deadline_s=self.deadline_s,
            client_name=f"silence:{keys.part(self.fleet)}:{lane}:{self.instance_id}"[:100],
            primary=primary,
        )

    def proof(self) -> tuple[tuple[int, int], ...]:
        """Return what changes when a file with credentials or certificates does."""
        files = [*self.settings.tls.files] if self.tls is not None else []
        if self.credentials.file is not None:
            files.append(self.credentials.file)
        found = []
        for path in files:
            try:
                found.append(stamp(path))
            except ConfigError:
                found.append((0, 0))
        return tuple(found)

"""
The realtime hub: it ties sessions, channels, the store and the bus of one instance together.

It has one timer and two tasks (`housekeeping.py`, `recorder.py`), however many connections there are. It
knows no socket: the edge calls the listeners that `listener_for` makes. What a client may do is decided
in `core/session.py`; delivering is `local_channels.py`; looking sessions up and ordering them about,
fleet-wide, is `directory.py`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping
from random import Random

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core import centrifuge as wire
from silence_gateway.core import centrifuge_codes as codes
from silence_gateway.core.centrifuge_codes import ReplyError
from silence_gateway.core.channels import NamespaceRules, look_up, namespace_of
from silence_gateway.core.http import Request
from silence_gateway.core.session import Session
from silence_gateway.core.session_rules import Identity
from silence_gateway.errors import NotFound, StoreFault
from silence_gateway.events import Noticed, Observer, nobody
from silence_gateway.realtime import control
from silence_gateway.realtime.connection import Connection
from silence_gateway.realtime.directory import Directory
from silence_gateway.realtime.housekeeping import Housekeeper
from silence_gateway.realtime.local_channels import BUS_PREFIX, LocalChannels
from silence_gateway.realtime.presence_desk import PresenceDesk
from silence_gateway.realtime.recorder import SessionRecorder, presence_of
from silence_gateway.realtime.settings import RealtimeSettings
from silence_gateway.realtime.statistics import RealtimeStatistics
from silence_gateway.realtime.tokens import HmacTokens, TokenExpired, TokenInvalid, Verifier
from silence_gateway.stores.contracts import Board, Bus, Subscription
from silence_gateway.stores.session_contract import SessionRecord, SessionStore

# How long `stop` waits for the store to take the last notes: what is left is swept by the others.
LAST_NOTES_S = 2.0
# A publication must pass the bus, and must not fill a client's queue by itself; what is bigger belongs
# behind a link.
MAX_PUBLICATION_BYTES = 512 * 1024


class RealtimeHub:
    """
    Every session and channel of one instance.

    Args:
        settings: How sessions behave.
        sessions: Where sessions and presence are written to.
        bus: Carries publications between instances.
        board: Elects who sweeps.
        instance_id: This instance's name in the fleet.
        clock: The only clock.
        observer: Told what an operator should know.
        rng: Spreads the first pings.
        verifier: Believes tokens; by default HS256 with `settings.tokens`.
    """

    def __init__(
        self,
        settings: RealtimeSettings,
        *,
        sessions: SessionStore,
        bus: Bus,
        board: Board,
        instance_id: str,
        clock: Clock | None = None,
        observer: Observer = nobody,
        rng: Random | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        self.settings = settings
        self.store = sessions
        self.bus = bus
        self.board = board
        self.instance_id = instance_id
        self.clock: Clock = clock or SystemClock()
        self.observer = observer
        self.rng = rng or Random()  # noqa: S311 - only spreads pings
        self.verifier = verifier or HmacTokens(settings.tokens, self.clock)
        self.rules = settings.session_rules()
        self.statistics = RealtimeStatistics()
        self.connections: dict[str, Connection] = {}
        self.users: dict[str, dict[Connection, None]] = {}
        self.sockets: dict[Connection, None] = {}
        self.channels = LocalChannels(
            bus,
            self.clock,
            self.statistics,
            queue_bytes=settings.queue_bytes,
            linger_s=settings.linger_s,
        )
        self.recorder = SessionRecorder(sessions, settings, self.clock, self.statistics, self.record_of)
        self.presence_desk = PresenceDesk(sessions, self.recorder)
        self.started_us = self.clock.now_us()
        self.draining = False
        self.housekeeper = Housekeeper(self)
        self.directory = Directory(self)
        self.tasks: list[asyncio.Task[None]] = []
        self.orders: Subscription | None = None
        self.passing_on: set[asyncio.Future[None]] = set()

    # Life

    async def start(self) -> None:
        """Begin; returns at once, also when the store is away."""
        secret = self.settings.tokens.hmac_secret.encode()
        if 0 < len(secret) < 32:
            what = f"realtime.tokens.hmac_secret has {len(secret)} bytes; below 32 it can be guessed offline"
            self.observer(Noticed(what=what, loudness="warning"))
        self.orders = self.bus.subscribe(control.CHANNEL, self.directory.on_order)
        self.tasks = [
            asyncio.create_task(self.recorder.run(), name="realtime-recorder"),
            asyncio.create_task(self.housekeeper.run(), name="realtime-housekeeping"),
        ]
        for task in self.tasks:
            task.add_done_callback(self.task_ended)
        self.housekeeper.tick()

    async def drain(self, within_s: float) -> None:
        """Send every client elsewhere (3001), spread over *within_s* seconds; nobody new is let in."""
        self.draining = True
        everyone = list(self.sockets)
        steps = max(1, min(len(everyone), round(within_s / 0.1)))
        for step in range(steps):
            for connection in everyone[step::steps]:
                connection.on_shutdown()
            if step + 1 < steps:
                await self.clock.sleep(within_s / steps)

    async def stop(self) -> None:
        """Close what is open, take this instance out of the store, and end."""
        self.draining = True
        for connection in list(self.sockets):
            connection.on_shutdown()
        try:
            async with asyncio.timeout(LAST_NOTES_S):
                await self.recorder.settled()
                await self.store.forget_instance(self.instance_id)
        except (StoreFault, TimeoutError) as exc:
            what = f"sessions of this instance are left to the sweep: {exc or 'the store is slow'}"
            self.observer(Noticed(what=what, loudness="warning"))
        self.housekeeper.stop()
        if self.orders is not None:
            self.orders.close()
        self.presence_desk.close()
        self.channels.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, *self.passing_on, return_exceptions=True)
        self.tasks = []

    def task_ended(self, task: asyncio.Task[None]) -> None:
        """A task of ours ends only when it is told to; anything else is a bug to be seen."""
        if not task.cancelled() and task.exception() is not None:
            what = f"{task.get_name()} broke: {task.exception()!r}"
            self.observer(Noticed(what=what, loudness="error"))

    def listener_for(self, request: Request | None = None) -> Connection:  # noqa: ARG002 - for later rules
        """Return the listener of one new WebSocket."""
        return Connection(self)

    def now_us(self) -> int:
        """Microseconds of the monotonic clock, which sessions are timed by."""
        return round(self.clock.monotonic_s() * 1_000_000)

    # What connections ask for

    def open_session(self, connection: Connection) -> Session:
        """A socket was opened: begin a session."""
        now_us = self.now_us()
        first_ping_us = now_us + round(self.rules.ping_us * (0.5 + 0.5 * self.rng.random()))
        session = Session(self.rules, secrets.token_urlsafe(15), now_us, first_ping_us)
        connection.session = session
        self.sockets[connection] = None
        self.statistics.opened += 1
        self.statistics.sockets += 1
        self.housekeeper.schedule(connection)
        if self.draining:
            connection.on_shutdown()
        return session

    def verify(self, connection: Connection, command_id: int, token: str, *, refresh: bool) -> None:
        """Check a token, and tell the session."""
        now_us = self.now_us()
        if not token and self.settings.anonymous and not refresh:
            connection.carry_out(connection.session.on_verified(command_id, Identity(), now_us))
            return
        try:
            identity = self.verifier.verify(token)
        except TokenInvalid:
            connection.close(codes.INVALID_TOKEN)
        except TokenExpired:
            if refresh:
                connection.close(codes.CLOSED_EXPIRED)
            else:
                connection.fail(command_id, codes.TOKEN_EXPIRED)
        else:
            connection.carry_out(connection.session.on_verified(command_id, identity, now_us))

    def let_in(self, connection: Connection) -> None:
        """A client has been let in."""
        session = connection.session
        connection.connected_us = self.clock.now_us()
        self.connections[session.client] = connection
        assert session.identity is not None
        if session.identity.user:
            self.users.setdefault(session.identity.user, {})[connection] = None
        self.statistics.connected += 1
        self.recorder.note(connection)

    def joined(self, connection: Connection, channel: str) -> None:
        """A client is in *channel* now."""
        session = connection.session
        rules = self.namespace(channel)
        self.recorder.note(connection)
        if rules.presence:
            self.recorder.note_join(channel, session.client, presence_of(session))
        if rules.join_leave:
            self.pass_on(channel, b'j{"info":%b}' % session.info)

    def left(self, connection: Connection, channel: str) -> None:
        """A client is not in *channel* any more."""
        session = connection.session
        rules = self.namespace(channel)
        if not session.over:
            self.recorder.note(connection)
        if rules.presence:
            self.recorder.note_leave(channel, session.client)
        if rules.join_leave:
            self.pass_on(channel, b'l{"info":%b}' % session.info)

    def pass_on(self, channel: str, payload: bytes) -> None:
        """Publish what nobody waits for."""
        future = asyncio.ensure_future(self.bus.publish(BUS_PREFIX + channel, payload))
        self.passing_on.add(future)
        future.add_done_callback(self.passed_on)

    def passed_on(self, future: asyncio.Future[None]) -> None:
        """Count what could not be published."""
        self.passing_on.discard(future)
        if not future.cancelled() and future.exception() is not None:
            self.statistics.dropped += 1

    def ended(self, connection: Connection) -> None:
        """A session is over; its socket may be open for a moment longer."""
        session = connection.session
        if self.connections.pop(session.client, None) is None:
            return
        self.statistics.connected -= 1
        self.recorder.note_gone(self.record_of(connection))
        user = session.identity.user if session.identity is not None else ""
        mine = self.users.get(user)
        if mine is not None:
            mine.pop(connection, None)
            if not mine:
                del self.users[user]

    def closed(self, connection: Connection) -> None:
        """A socket is gone."""
        self.ended(connection)
        if self.sockets.pop(connection, self) is None:
            self.statistics.sockets -= 1

    # What is known

    def namespace(self, channel: str) -> NamespaceRules:
        """Return the rules of a channel that exists."""
        return self.rules.namespaces[namespace_of(channel)]

    def record_of(self, connection: Connection) -> SessionRecord:
        """Return a session as the fleet sees it."""
        session = connection.session
        identity = session.identity or Identity()
        now_us = self.clock.now_us()
        return SessionRecord(
            id=session.client,
            instance=self.instance_id,
            user=identity.user,
            authenticated=identity.authenticated,
            connected_us=connection.connected_us,
            seen_us=now_us,
            expires_us=now_us + session.expires_us - self.now_us() if session.expires_us else 0,
            name=session.name,
            version=session.version,
            channels=tuple(name for name, settled in session.channels.items() if settled),
            commands=session.commands,
        )

    # What others want of it

    async def publish(
        self, channel: str, data: object, *, info: bytes = b"", tags: Mapping[str, str] | None = None
    ) -> None:
        """
        Publish *data* (anything JSON can say) to every subscriber of *channel* in the fleet.

        Raises:
            NotFound: The namespace of *channel* is not configured, or it is no channel's name.
            ValueError: *data* cannot be written as JSON, or is too big (see MAX_PUBLICATION_BYTES).
            StoreUnavailable: It could not be handed to the store.
        """
        rules = look_up(channel, self.rules.namespaces)
        if isinstance(rules, ReplyError):
            raise NotFound(f"{rules.message}: {channel!r}; its namespace must be configured")
        body = wire.publication(wire.encode_json(data), info, wire.encode_json(tags) if tags else b"")
        limit = min(MAX_PUBLICATION_BYTES, self.settings.queue_bytes // 2)
        if len(body) > limit:
            raise ValueError(f"a publication of {len(body)} bytes; {limit} are allowed")
        self.statistics.publications += 1
        await self.bus.publish(BUS_PREFIX + channel, b"p" + body)

    def subscribe(self, channel: str, callback: Callable[[object], None]) -> Callable[[], None]:
        """
        Call *callback* with the data of each publication; call what is returned to stop it.

        Raises:
            NotFound: The namespace of *channel* is not configured, or it is no channel's name.
        """
        rules = look_up(channel, self.rules.namespaces)
        if isinstance(rules, ReplyError):
            raise NotFound(f"{rules.message}: {channel!r}; its namespace must be configured")

        def heard(body: bytes) -> None:
            try:
                callback(json.loads(body)["data"])
            except Exception as exc:  # noqa: BLE001 - a callback's bug must not stop the fan-out
                what = f"a subscriber of {channel!r} failed: {exc!r}"
                self.observer(Noticed(what=what, loudness="error"))

        return self.channels.listen(channel, heard)

    async def ready(self, channel: str) -> None:
        """
        Wait until this instance hears *channel*: what is published from then on reaches `subscribe`.

        Raises:
            StoreUnavailable: The store is away, or nobody here has subscribed.
        """
        await self.bus.ready(BUS_PREFIX + channel)

    def on_swept(self, record: SessionRecord) -> None:
        """A session of a killed instance was removed: tell those who were with it."""
        info = wire.client_info(record.id, record.user)
        for channel in record.channels:
            rules = self.rules.namespaces.get(namespace_of(channel))
            if rules is not None and rules.join_leave:
                self.pass_on(channel, b'l{"info":%b}' % info)

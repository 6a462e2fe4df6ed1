"""
One client's conversation: what arrives goes in as calls, what must be done comes out as effects.

After every `on_*` call carry out the returned effects in order. The session holds no socket, no task
and no timer; `next_us` says when it wants to be looked at again, and looking early is harmless. Times
are integer microseconds of one monotonic clock. Nothing here raises, whatever a client sends.

Commands are answered in order as far as anyone can tell: one that touches a channel which is being
subscribed, and all after it, wait until that is settled; commands on other channels do not.
Publications do not pass through here: a channel's subscribers are written to directly, from the
`Join` effect (which follows the reply) to the `Leave` effect.
"""

from __future__ import annotations

from collections import deque

from silence_gateway.core import centrifuge as wire
from silence_gateway.core import centrifuge_codes as codes
from silence_gateway.core.centrifuge import BadFrame, Command
from silence_gateway.core.centrifuge_codes import CloseCode, ReplyError
from silence_gateway.core.session_commands import decide, not_served
from silence_gateway.core.session_effects import (
    Attach,
    Close,
    Connected,
    Effect,
    Join,
    Leave,
    Refreshed,
    Send,
    Verify,
)
from silence_gateway.core.session_rules import Identity, SessionRules
from silence_gateway.core.session_state import State

# Beyond this many commands under way a session reads no further: nobody waits for a thousand answers.
MAX_PENDING = 128
# Commands held back behind them; the client is told 3013 beyond (its first frame may hold 512).
MAX_WAITING = 2 * wire.MAX_COMMANDS
# From here on the socket is not read, so that TCP slows the client down before we refuse it.
PAUSE_WAITING = 32


class Session:
    """
    The conversation with one client, made for every connection: 1.1 KB when idle, its listener included.

    Attributes:
        channels: Channel to whether its subscription is settled (False while it is being made).
        pending: Command id to what it asked for, for every command whose answer is not known yet.
        commands: How many commands have come.
        refusals: How many were answered with an error since somebody last set this to 0.
        next_us: When to call `on_tick` next.
        paused: Whether the socket should not be read for now.
    """

    __slots__ = (
        "channels",
        "client",
        "commands",
        "expires_us",
        "identity",
        "info",
        "name",
        "next_us",
        "pending",
        "ping_us",
        "pong_due_us",
        "refusals",
        "rules",
        "stale_us",
        "state",
        "version",
        "waiting",
    )

    def __init__(self, rules: SessionRules, client: str, now_us: int, first_ping_us: int) -> None:
        self.rules = rules
        self.client = client
        self.state = State.NEW
        self.identity: Identity | None = None
        self.info = b""
        self.name = ""
        self.version = ""
        self.channels: dict[str, bool] = {}
        self.pending: dict[int, tuple[str, str]] = {}
        self.waiting: deque[Command] | None = None
        self.stale_us = now_us + rules.stale_us
        self.ping_us = first_ping_us
        self.pong_due_us = 0
        self.expires_us = 0
        self.next_us = self.stale_us
        self.commands = 0
        self.refusals = 0

    @property
    def paused(self) -> bool:
        """Whether the client is ahead of us by so much that its socket should not be read."""
        return self.waiting is not None and len(self.waiting) > PAUSE_WAITING

    @property
    def over(self) -> bool:
        """Whether the conversation has ended."""
        return self.state is State.CLOSED

    # What arrives

    def on_frame(self, payload: bytes) -> list[Effect]:
        """Take one text frame."""
        out: list[Effect] = []
        if self.over:
            return out
        try:
            commands = wire.decode_commands(payload)
        except BadFrame:
            return self.end(codes.CLOSED_BAD_REQUEST, out)
        self.commands += len(commands)
        for command in commands:
            if self.over:
                break
            if not command.method:
                self.take_pong(out)
            elif self.waiting or self.must_wait(command):
                self.hold_back(command, out)
            else:
                self.take(command, out)
        return out

    def on_binary(self) -> list[Effect]:
        """Take a binary frame: a client that was told JSON speaks something else."""
        return self.close(codes.INAPPROPRIATE_PROTOCOL)

    def on_tick(self, now_us: int) -> list[Effect]:
        """Look at the time; call it at `next_us`."""
        out: list[Effect] = []
        if self.over:
            return out
        if self.state is not State.CONNECTED:
            if now_us >= self.stale_us:
                self.end(codes.STALE, out)
            return out
        if self.expires_us and now_us >= self.expires_us + self.rules.expiry_grace_us:
            self.end(codes.CLOSED_EXPIRED, out)
        elif self.pong_due_us:
            if now_us >= self.pong_due_us:
                self.end(codes.NO_PONG, out)
        elif self.rules.ping_us and now_us >= self.ping_us:
            self.pong_due_us = now_us + self.rules.pong_timeout_us
            self.ping_us = now_us + self.rules.ping_us
            out.append(Send(wire.PING))
        self.plan()
        return out

    # What was asked of the outside and is answered now

    def on_verified(self, command_id: int, identity: Identity, now_us: int) -> list[Effect]:
        """The token of a connect or refresh command is good, or none is needed."""
        out: list[Effect] = []
        method, _ = self.pending.pop(command_id, ("", ""))
        if method == "connect" and self.state is State.VERIFYING:
            self.welcome(command_id, identity, now_us, out)
        elif method == "refresh" and self.state is State.CONNECTED:
            self.renew(command_id, identity, now_us, out)
        self.resume(out)
        return out

    def on_attached(self, command_id: int) -> list[Effect]:
        """The channel of a subscribe command reaches this instance now."""
        out: list[Effect] = []
        method, channel = self.pending.pop(command_id, ("", ""))
        if method == "subscribe" and self.state is State.CONNECTED:
            self.channels[channel] = True
            out += (Send(wire.reply(command_id, "subscribe")), Join(channel))
        self.resume(out)
        return out

    def on_answer(self, command_id: int, result: bytes) -> list[Effect]:
        """A publish, presence or presence_stats command was done; *result* is encoded JSON."""
        out: list[Effect] = []
        method, _ = self.pending.pop(command_id, ("", ""))
        if method and self.state is State.CONNECTED:
            out.append(Send(wire.reply(command_id, method, result)))
        self.resume(out)
        return out

    def on_failed(self, command_id: int, error: ReplyError) -> list[Effect]:
        """A command could not be done."""
        out: list[Effect] = []
        method, channel = self.pending.pop(command_id, ("", ""))
        if method and not self.over:
            if method == "subscribe":
                self.channels.pop(channel, None)
                out.append(Leave(channel, joined=False))
            elif method == "connect":
                self.state = State.REFUSED
            self.refuse(command_id, error, out)
        self.resume(out)
        return out

    # What the server decides

    def unsubscribe(self, channel: str, code: int, reason: str) -> list[Effect]:
        """Take the client out of *channel* and tell it; nothing happens if it is not in it."""
        if not self.channels.get(channel, False):
            return []
        del self.channels[channel]
        return [Send(wire.unsubscribe_push(channel, code, reason)), Leave(channel, joined=True)]

    def close(self, why: CloseCode) -> list[Effect]:
        """End the conversation; harmless when it has ended."""
        return self.end(why, [])

    def lost(self) -> list[Effect]:
        """The socket is gone."""
        return self.leave_all([])

    # Inside

    def end(self, why: CloseCode, out: list[Effect]) -> list[Effect]:
        """Say goodbye and leave every channel; return *out* with what that takes."""
        if not self.over:
            out.append(Close(why))
            self.leave_all(out)
        return out

    def refuse(self, command_id: int, error: ReplyError, out: list[Effect]) -> None:
        """Answer a command with an error."""
        self.refusals += 1
        out.append(Send(wire.error_reply(command_id, error)))

    def leave_all(self, out: list[Effect]) -> list[Effect]:
        """Nothing happens here any more; return *out* with what that takes."""
        self.state = State.CLOSED
        out += [Leave(channel, joined=settled) for channel, settled in self.channels.items()]
        self.channels = {}
        self.pending = {}
        self.waiting = None
        self.pong_due_us = 0
        return out

    def plan(self) -> None:
        """Work out when to look at the time again."""
        if self.state is not State.CONNECTED:
            self.next_us = self.stale_us
            return
        wake_us = self.pong_due_us or (self.ping_us if self.rules.ping_us else 0)
        if self.expires_us:
            over_us = self.expires_us + self.rules.expiry_grace_us
            wake_us = min(wake_us, over_us) if wake_us else over_us
        self.next_us = wake_us

    def take_pong(self, out: list[Effect]) -> None:
        """A pong nobody asked for is a broken client, or one that keeps us busy."""
        if self.state is not State.CONNECTED or not self.pong_due_us:
            self.end(codes.CLOSED_BAD_REQUEST, out)
            return
        self.pong_due_us = 0
        self.plan()

    def must_wait(self, command: Command) -> bool:
        """Whether an earlier command has to be settled before this one."""
        if not self.pending:
            return False
        if self.state is State.VERIFYING or len(self.pending) >= MAX_PENDING:
            return True
        if command.id in self.pending:
            return True
        channel = command.params.get("channel")
        return isinstance(channel, str) and self.channels.get(channel) is False

    def hold_back(self, command: Command, out: list[Effect]) -> None:
        """Keep a command for later, up to a bound."""
        if self.waiting is None:
            self.waiting = deque()
        if len(self.waiting) >= MAX_WAITING:
            self.end(codes.CLOSED_TOO_MANY_REQUESTS, out)
            return
        self.waiting.append(command)

    def resume(self, out: list[Effect]) -> None:
        """Take what was held back, as far as it can be taken now."""
        while self.waiting and not self.over:
            if self.must_wait(self.waiting[0]):
                return
            self.take(self.waiting.popleft(), out)
        self.waiting = None

    def take(self, command: Command, out: list[Effect]) -> None:
        """Do what a command asks for, or ask the outside to."""
        if self.state is not State.CONNECTED:
            if self.state is State.NEW and command.method == "connect":
                self.take_connect(command, out)
            else:
                self.end(codes.CLOSED_BAD_REQUEST, out)
            return
        match command.method:
            case "publish" | "subscribe" | "presence" | "presence_stats":
                self.take_channel_command(command, out)
            case "unsubscribe":
                self.take_unsubscribe(command, out)
            case "refresh":
                self.take_refresh(command, out)
            case "ping":
                out.append(Send(wire.reply(command.id, "ping")))
            case "connect":
                self.end(codes.CLOSED_BAD_REQUEST, out)
            case "send":
                # No backend takes messages without an answer.
                self.end(codes.CLOSED_NOT_AVAILABLE, out)
            case "history" | "rpc" | "sub_refresh":
                self.refuse(command.id, not_served(command, self.rules.namespaces), out)
            case _:
                self.refuse(command.id, codes.METHOD_NOT_FOUND, out)

    def take_connect(self, command: Command, out: list[Effect]) -> None:
        """Begin: who is this?"""
        params = command.params
        token, name, version = params.get("token", ""), params.get("name", ""), params.get("version", "")
        if not (isinstance(token, str) and isinstance(name, str) and isinstance(version, str)):
            self.end(codes.CLOSED_BAD_REQUEST, out)
            return
        self.name, self.version = name[:16], version[:64]
        self.state = State.VERIFYING
        self.pending[command.id] = ("connect", "")
        out.append(Verify(command.id, token))

    def welcome(self, command_id: int, identity: Identity, now_us: int, out: list[Effect]) -> None:
        """Answer connect."""
        self.state = State.CONNECTED
        self.info = wire.client_info(self.client, identity.user, identity.info)
        result = self.introduce(identity, now_us)
        if self.rules.ping_us:
            result += b',"ping":%d,"pong":true' % max(1, round(self.rules.ping_us / 1_000_000))
        self.plan()
        out += (Send(wire.reply(command_id, "connect", b"{" + result + b"}")), Connected())

    def introduce(self, identity: Identity, now_us: int) -> bytes:
        """Note when the token runs out; return what connect and refresh are both answered."""
        self.identity = identity
        result = b'"client":%b,"version":%b' % (
            wire.encode_json(self.client),
            wire.encode_json(self.rules.server_version),
        )
        self.expires_us = now_us + identity.ttl_us if identity.ttl_us else 0
        if self.expires_us:
            result += b',"expires":true,"ttl":%d' % max(1, identity.ttl_us // 1_000_000)
        return result

    def take_refresh(self, command: Command, out: list[Effect]) -> None:
        """A new token for a connection that would expire."""
        token = command.params.get("token", "")
        if not isinstance(token, str) or not token:
            self.refuse(command.id, codes.BAD_REQUEST, out)
            return
        self.pending[command.id] = ("refresh", "")
        out.append(Verify(command.id, token, refresh=True))

    def renew(self, command_id: int, identity: Identity, now_us: int, out: list[Effect]) -> None:
        """Answer refresh; a token of somebody else ends the connection."""
        if self.identity is None or identity.user != self.identity.user:
            self.end(codes.INVALID_TOKEN, out)
            return
        result = self.introduce(identity, now_us)
        self.plan()
        out += (Send(wire.reply(command_id, "refresh", b"{" + result + b"}")), Refreshed())

    def take_channel_command(self, command: Command, out: list[Effect]) -> None:
        """Have a command on a channel done, or say why not."""
        assert self.identity is not None
        effect = decide(command, self.rules.namespaces, self.identity.user, self.info, self.channels)
        if isinstance(effect, ReplyError):
            self.refuse(command.id, effect, out)
            return
        if isinstance(effect, Attach):
            self.channels[effect.channel] = False
        self.pending[command.id] = (command.method, effect.channel)
        out.append(effect)

    def take_unsubscribe(self, command: Command, out: list[Effect]) -> None:
        """Leave a channel; leaving one that was never entered is no error."""
        channel = command.params.get("channel")
        if not isinstance(channel, str) or not channel:
            self.refuse(command.id, codes.BAD_REQUEST, out)
            return
        entered = self.channels.pop(channel, None)
        out.append(Send(wire.reply(command.id, "unsubscribe")))
        if entered:
            out.append(Leave(channel, joined=True))

"""
What a hub is told once, at its construction: frozen, checked here, believed everywhere else.

Nothing here reads a file; `app/config` makes these from the operator's YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from silence_gateway.core.channels import NamespaceRules
from silence_gateway.core.session_rules import SessionRules
from silence_gateway.errors import ConfigError

NamespaceSettings = NamespaceRules
"""What clients may do in the channels of one namespace: publish, presence, join_leave, max_subscriptions."""

NAMESPACE_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """
    Which connection tokens are believed.

    Attributes:
        hmac_secret: Key of HS256; empty believes no token. Shorter than 32 bytes it can be guessed
            offline (RFC 7518 section 3.2): the hub says so when it starts.
        audience: What `aud` must say or contain; empty asks nothing.
        issuer: What `iss` must say; empty asks nothing.
    """

    hmac_secret: str = ""
    audience: str = ""
    issuer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealtimeSettings:
    """
    How WebSocket sessions behave.

    Attributes:
        path: Where the WebSocket is served.
        origins: Origins (`https://app.example.com`) whose pages may connect; empty for pages of this
            very host. A client that sends no Origin is no browser and may connect.
        tokens: Which tokens are believed.
        anonymous: Clients without a token may connect.
        ping_s: Seconds between pings; 0 sends none.
        pong_timeout_s: Seconds a client has to answer a ping.
        stale_s: Seconds a connection may stay without `connect`.
        expiry_grace_s: Seconds an expired connection may still show a new token.
        queue_bytes: What may wait for a client that reads slowly; it is closed with 3008 beyond.
        session_ttl_s: How long a session's record outlives the last time it was written.
        presence_ttl_s: How long a client stays in a channel's presence without being confirmed; it is
            confirmed, and its session's record written again, every 40 % of this.
        instance_ttl_s: After how many seconds of silence an instance is given up and its sessions are
            removed; it speaks up every 30 % of this. They are gone at most twice this after a kill.
        namespaces: Rules by namespace; the channels without one are in the namespace `""`.
        api_key: Key of the server API; empty serves none.
        linger_s: How long a channel stays subscribed at the store after its last local subscriber.
        server_version: Told to clients.
    """

    path: str = "/connection/websocket"
    origins: tuple[str, ...] = ()
    tokens: TokenSettings = field(default_factory=TokenSettings)
    anonymous: bool = False
    ping_s: float = 25.0
    pong_timeout_s: float = 8.0
    stale_s: float = 10.0
    expiry_grace_s: float = 25.0
    queue_bytes: int = 1024 * 1024
    session_ttl_s: float = 24 * 3600.0
    presence_ttl_s: float = 60.0
    instance_ttl_s: float = 10.0
    namespaces: Mapping[str, NamespaceSettings] = field(
        default_factory=lambda: MappingProxyType({"": NamespaceSettings()})
    )
    api_key: str = ""
    linger_s: float = 1.0
    server_version: str = "1"

    def __post_init__(self) -> None:
        problems = [*self.time_problems(), *self.name_problems()]
        if problems:
            raise ConfigError([f"realtime: {problem}" for problem in problems])

    def time_problems(self) -> list[str]:
        """Return what is wrong with durations and sizes."""
        problems = []
        if self.ping_s < 0:
            problems.append(f"ping must not be negative, got {self.ping_s:g} s (0 sends none)")
        if self.ping_s and not 0 < self.pong_timeout_s < self.ping_s:
            problems.append(
                f"the pong timeout must be shorter than ping: {self.pong_timeout_s:g} s is not"
                f" between 0 and {self.ping_s:g} s"
            )
        problems += [
            f"{name} must be above zero"
            for name in ("stale_s", "session_ttl_s", "presence_ttl_s", "instance_ttl_s")
            if getattr(self, name) <= 0
        ]
        if self.expiry_grace_s < 0 or self.linger_s < 0:
            problems.append("expiry_grace_s and linger_s must not be negative")
        if self.queue_bytes < 1024:
            problems.append(f"queue must be at least 1KiB, got {self.queue_bytes} bytes")
        return problems

    def name_problems(self) -> list[str]:
        """Return what is wrong with names, paths and secrets."""
        problems = []
        if not self.path.startswith("/") or "?" in self.path:
            problems.append(f"path must start with / and hold no ?, got {self.path!r}")
        if not self.server_version:
            problems.append("server_version must not be empty: clients read it")
        for name, rules in self.namespaces.items():
            if name and (len(name) < 2 or not NAMESPACE_LETTERS.issuperset(name)):
                problems.append(
                    f"namespace {name!r} must be two or more letters, digits, - or _ (channels are name:rest)"
                )
            if rules.max_subscriptions < 1:
                problems.append(f"namespace {name!r}: max_subscriptions must be at least 1")
        problems += [
            f"origin {origin!r} must look like https://app.example.com"
            for origin in self.origins
            if origin != "*" and ("://" not in origin or origin.count("/") != 2)
        ]
        return problems

    @property
    def refresh_s(self) -> float:
        """Seconds in which every session's record and presence is written again once."""
        return min(self.presence_ttl_s, self.session_ttl_s) * 0.4

    def session_rules(self) -> SessionRules:
        """Return the part that `core/session.py` needs, in its units."""
        return SessionRules(
            namespaces=MappingProxyType(dict(self.namespaces)),
            server_version=self.server_version,
            stale_us=round(self.stale_s * 1_000_000),
            ping_us=round(self.ping_s * 1_000_000),
            pong_timeout_us=round(self.pong_timeout_s * 1_000_000),
            expiry_grace_us=round(self.expiry_grace_s * 1_000_000),
        )

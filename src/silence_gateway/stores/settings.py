"""
What can be set about the store, checked once.

Only what this room itself uses: what a limit does while the store is down belongs to the limits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from silence_gateway.errors import ConfigError
from silence_gateway.stores.tls import TlsSettings
from silence_gateway.stores.url import StoreUrl, parse_store_url

VERIFIED = TlsSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """
    Where the store is and how long to wait for it.

    Attributes:
        url: As the operator wrote it, or already read; not shown by `repr`, because it may hold a password.
        deadline_s: Whole budget of one operation on the request path.
        failures: Failures in a row that open the breaker.
        cool_down_s: Mean wait before the store is asked again.
        general_deadline_s: Budget of one operation off the request path.
        connect_deadline_s: Budget of opening a connection, name resolution and login included.
        silence_s: A connection that owes answers and says nothing for this long is closed.
        tls: How a store whose address asks for TLS is verified.
        password_file: File that holds the password, read for every connection; None for the one in *url*.
        sentinel_username: ACL user for the sentinels, or empty: they have users of their own.
        sentinel_password: Its password, or the sentinels' `requirepass`; not shown by `repr`.
        compress_over: Payloads of more bytes than this are stored compressed.
        guest: Whether this process is no instance of the fleet: it is not counted, so that limits are not
            shared out to it.

    Raises:
        ConfigError: The address cannot be read or a number is out of range.
    """

    url: str | StoreUrl = field(default="embedded://", repr=False)
    deadline_s: float = 0.025
    failures: int = 5
    cool_down_s: float = 0.5
    general_deadline_s: float = 0.25
    connect_deadline_s: float = 0.25
    silence_s: float = 0.25
    tls: TlsSettings = VERIFIED
    password_file: Path | None = None
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    compress_over: int = 1024
    guest: bool = False

    def __post_init__(self) -> None:
        _ = self.address
        for name in ("deadline_s", "cool_down_s", "general_deadline_s", "connect_deadline_s", "silence_s"):
            if not 0 < getattr(self, name) <= 60:
                raise ConfigError(f"store.{name} must be above 0 and at most 60 s, got {getattr(self, name)}")
        if self.compress_over < 0:
            raise ConfigError(f"store.compress_over must be at least 0, got {self.compress_over}")
        if not 1 <= self.failures <= 10_000:
            raise ConfigError(f"store.breaker.failures must be between 1 and 10000, got {self.failures}")

    @property
    def address(self) -> StoreUrl:
        """The address, parsed."""
        return self.url if isinstance(self.url, StoreUrl) else parse_store_url(self.url)

"""The shared store: where it is, how long we wait for it, and what happens while it is away."""

from __future__ import annotations

from itertools import product
from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import (
    FilePath,
    Flag,
    Kind,
    Secret,
    Text,
    choice,
    closest,
    duration,
    size,
    whole,
)
from silence_gateway.app.config.quantities import mask_url, quoted
from silence_gateway.app.config.section import Section
from silence_gateway.errors import ConfigError
from silence_gateway.stores.url import SUPPORTED, StoreUrl, parse_store_url

WhenDown = Literal["local_share", "local_full", "allow", "deny"]
WHEN_DOWN = choice("local_share", "local_full", "allow", "deny")

SCHEMES = (
    "embedded",
    "memory",
    *map(
        "".join,
        product(("valkey", "redis"), ("", "s", "+unix", "+sentinel", "s+sentinel", "+cluster", "s+cluster")),
    ),
)


def read_store_url(text: str) -> StoreUrl:
    """
    Read where the store is; whether anything answers there is found out at run time.

    Raises:
        ValueError: If no store has such a URL. The text never repeats a password.
    """
    scheme, slashes, _ = text.partition("://")
    if not slashes:
        hint = closest(scheme.partition(":")[0], SCHEMES)
        raise ValueError(f"{quoted(mask_url(text))} is not a URL: write {SUPPORTED}{hint}")
    try:
        return parse_store_url(text)
    except ConfigError as exc:
        hint = "" if scheme in SCHEMES else closest(scheme, SCHEMES)
        raise ValueError(str(exc).removeprefix("store.url ") + hint) from exc


STORE_URL = Kind(
    "URL",
    read_store_url,
    str,
    {"type": "string", "pattern": r"[a-z+]+://.*"},
    ("embedded://", "memory://", "valkey://127.0.0.1:6379/0", "valkeys+cluster://a:6379,b:6379"),
    secret=True,
)


class StoreBreakerConfig(Section):
    """When to stop asking a store that does not answer."""

    failures: Annotated[int, whole(1, 1000)] = Field(
        default=5, description="Failed operations in a row that open the breaker."
    )
    cool_down_s: Annotated[float, duration("10ms", "1m")] = Field(
        default=0.5, alias="cool_down", description="How long the breaker stays open before one probe."
    )


class StoreTlsConfig(Section):
    """TLS towards the store, for addresses that begin with `valkeys` or `rediss`."""

    ca: FilePath | None = Field(
        default=None, description="CA certificates in PEM form that signed the store's; absent: the system's."
    )
    certificate: FilePath | None = Field(
        default=None, description="Our own certificate chain in PEM form, for a store that asks for one."
    )
    key: FilePath | None = Field(default=None, description="Private key of that certificate.")
    verify: Flag = Field(
        default=True,
        description="Whether the store must prove who it is. Without, anybody in between reads everything.",
    )
    server_name: Text | None = Field(
        default=None, description="Name to expect in the store's certificate; absent: the host."
    )


class SentinelConfig(Section):
    """Who we are to the sentinels: they have users of their own."""

    username: Text | None = Field(default=None, description="ACL user of the sentinels.")
    password: Secret = Field(default=None, description="Its password, or their `requirepass`.")


class StoreConfig(Section):
    """The state that all instances share."""

    url: Annotated[StoreUrl, STORE_URL] = Field(
        default=StoreUrl(scheme="embedded"),
        description="Where the state is: `embedded://` is a server of our own, `memory://` this process.",
    )
    tls: StoreTlsConfig | None = Field(
        default=None, description="TLS towards the store; the files are read anew when they change."
    )
    password_file: FilePath | None = Field(
        default=None,
        description="File with the password, read anew for every connection; instead of one in the URL.",
    )
    sentinel: SentinelConfig = Field(
        default=SentinelConfig(), description="Login of the sentinels, where they ask for one."
    )
    deadline_s: Annotated[float, duration("1ms", "10s")] = Field(
        default=0.025, alias="deadline", description="Whole budget of a store operation on the request path."
    )
    breaker: StoreBreakerConfig = Field(
        default=StoreBreakerConfig(), description="When to stop asking a store that does not answer."
    )
    compress_over: Annotated[int, size("0B", "1MiB")] = Field(
        default=1024, description="Stored payloads of more than this are compressed (zstd); 1MiB: never."
    )
    when_down: Annotated[WhenDown, WHEN_DOWN] = Field(
        default="local_share",
        description=(
            "What limits do while the store is away: `local_share` enforces this instance's share of each, "
            "`local_full` the whole of each, `allow` lets everything pass, `deny` nothing."
        ),
    )

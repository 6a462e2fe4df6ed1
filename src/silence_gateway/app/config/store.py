"""The shared store: where it is, how long we wait for it, and what happens while it is away."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field

from silence_gateway.app.config.kinds import Kind, SecretUrl, choice, closest, duration, whole
from silence_gateway.app.config.quantities import mask_url, quoted
from silence_gateway.app.config.section import Section

WhenDown = Literal["local_share", "local_full", "allow", "deny"]
WHEN_DOWN = choice("local_share", "local_full", "allow", "deny")

SERVER_SCHEMES = ("valkey", "valkeys", "redis", "rediss")
OWN_SCHEMES = ("embedded", "memory")
LATER_SCHEMES = ("valkey+sentinel", "valkey+cluster", "redis+sentinel", "redis+cluster")
FORMS = "embedded://, memory://, valkey://HOST:6379/0 or valkeys://HOST:6379/0 (TLS)"


def parse_store_url(text: str) -> SecretUrl:
    """
    Check the form of a store's URL; whether anything answers there is found out at run time.

    Raises:
        ValueError: If no store has such a URL.
    """
    shown = quoted(mask_url(text))
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        raise ValueError(f"{shown} is not a store URL: write {FORMS}")
    if scheme in LATER_SCHEMES:
        raise ValueError(f"{shown}: {scheme}:// is not supported in this version: write {FORMS}")
    if scheme in OWN_SCHEMES:
        if rest.strip("/"):
            raise ValueError(f"{shown}: {scheme}:// stands alone; nothing may follow it")
        return SecretUrl(text)
    if scheme not in SERVER_SCHEMES:
        hint = closest(scheme, OWN_SCHEMES + SERVER_SCHEMES)
        raise ValueError(f"{shown}: no store has the scheme {quoted(scheme)}; write {FORMS}{hint}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(
            f"{shown} is not a store URL: its host or port cannot be read; write {FORMS}"
        ) from exc
    if not host or any(c.isspace() for c in unquote(host)):
        raise ValueError(f"{shown} names no host: write {scheme}://HOST:6379/0")
    if port == 0:
        raise ValueError(f"{shown} has no usable port: ports are 1 to 65535")
    database = parts.path.removeprefix("/")
    if database and not (database.isascii() and database.isdigit() and len(database) <= 5):
        raise ValueError(
            f"{shown}: what follows the host is the database's number, as in {scheme}://HOST:6379/0"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"{shown}: nothing may follow the database's number (no ? and no #)")
    return SecretUrl(text)


STORE_URL = Kind(
    "URL",
    parse_store_url,
    str,
    {"type": "string", "pattern": r"[a-z+]+://.*"},
    ("embedded://", "memory://", "valkey://127.0.0.1:6379/0"),
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


class StoreConfig(Section):
    """The state that all instances share."""

    url: Annotated[SecretUrl, STORE_URL] = Field(
        default=SecretUrl("embedded://"),
        description="Where the state is: `embedded://` is a server of our own, `memory://` this process.",
    )
    deadline_s: Annotated[float, duration("1ms", "10s")] = Field(
        default=0.025, alias="deadline", description="Whole budget of a store operation on the request path."
    )
    breaker: StoreBreakerConfig = Field(
        default=StoreBreakerConfig(), description="When to stop asking a store that does not answer."
    )
    when_down: Annotated[WhenDown, WHEN_DOWN] = Field(
        default="local_share",
        description=(
            "What limits do while the store is away: `local_share` enforces this instance's share of each, "
            "`local_full` the whole of each, `allow` lets everything pass, `deny` nothing."
        ),
    )

"""Rate limits and address lists, as the file says them; what they do is in `core/limits.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import FilePath, Kind, Name, Networks, choice, closest, whole
from silence_gateway.app.config.matching import LimitMatch
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.store import WHEN_DOWN, WhenDown
from silence_gateway.core.rates import Rate, parse_rate
from silence_gateway.limiting.limit_key import (
    HEADER_NAME,
    IPV6_PREFIX,
    MAX_CLAIM_CHARS,
    MAX_IPV6_PREFIX,
    MIN_IPV6_PREFIX,
)

RATE = Kind("rate", parse_rate, str, {"type": "string", "pattern": r"[0-9]+/[0-9]*[A-Za-z]+"},
            ("100/minute", "5000/s", "10/30s"))  # fmt: skip

KEY_WORDS = ("client_ip", "user", "api_key", "method", "route", "path", "const")
KEY_FORMS = "client_ip, user, api_key, claim:NAME, header:NAME, method, route, path or const"


def parse_key(text: str) -> str:
    """
    Check one part of a limit's key.

    Raises:
        ValueError: If it is none that this version counts by.
    """
    if text in KEY_WORDS:
        return text
    head, colon, name = text.partition(":")
    if colon and head == "header":
        if not HEADER_NAME.fullmatch(name):
            raise ValueError(
                f"{quoted(text)} names no header that gets here: write header:X-Tenant, no underscores"
            )
        return f"header:{name.lower()}"
    if colon and head == "claim":
        if not 0 < len(name) <= MAX_CLAIM_CHARS:
            raise ValueError(
                f"{quoted(text)} names no claim: write claim:NAME, of at most {MAX_CLAIM_CHARS} characters"
            )
        return text
    raise ValueError(f"{quoted(text)} is not a key to count by: write {KEY_FORMS}{closest(text, KEY_WORDS)}")


KEY_PART = Kind("part of a key", parse_key, str, {"type": "string"}, ("client_ip", "user", "header:X-Tenant"))

Algorithm = Literal["sliding_window", "token_bucket"]
LATER = "the algorithm {!r} is not supported in this version: choose from sliding_window, token_bucket"
ALGORITHM = choice(
    "sliding_window",
    "token_bucket",
    slips={word: LATER.format(word) for word in ("sliding_counter", "fixed_window", "concurrency")},
)
Mode = Literal["enforce", "shadow"]
MODE = choice("enforce", "shadow")


def parse_cost(text: str) -> int:
    """
    Read what one request costs.

    Raises:
        ValueError: If it is not a whole number from 1 to a million.
    """
    if text.startswith(("header:", "response header:")):
        raise ValueError("a cost taken from a header is not supported in this version: write a whole number")
    return int(COST_NUMBER.parse(text))


COST_NUMBER = whole(1, 1_000_000)
COST = Kind(COST_NUMBER.name, parse_cost, int, COST_NUMBER.json, ("1",))


class LimitConfig(Section):
    """One limit on the rate of some requests."""

    name: Name = Field(description="Name in answers, metrics and the admin API; unique.")
    match: LimitMatch = Field(description="Which requests it counts.")
    key: tuple[Annotated[str, KEY_PART], ...] = Field(
        default=("client_ip",), description="What shares one counter; several parts together make one key."
    )
    ipv6_prefix: Annotated[int, whole(MIN_IPV6_PREFIX, MAX_IPV6_PREFIX)] = Field(
        default=IPV6_PREFIX,
        description="How many bits of an IPv6 address are one client, where addresses count apart.",
    )
    rate: Annotated[Rate, RATE] = Field(description="Uses per window of time.")
    burst: Annotated[int, whole(1, 1_000_000_000)] | None = Field(
        default=None,
        description="Size of the bucket, for token_bucket only; absent: the rate's number of uses.",
    )
    algorithm: Annotated[Algorithm, ALGORITHM] = Field(
        default="sliding_window",
        description="Exact over any window of time, or a bucket that refills steadily.",
    )
    cost: Annotated[int, COST] = Field(default=1, description="What one request uses up.")
    mode: Annotated[Mode, MODE] = Field(
        default="enforce",
        description="`shadow` counts and reports what it would refuse, and refuses nothing.",
    )
    when_down: Annotated[WhenDown, WHEN_DOWN] | None = Field(
        default=None, description="What it does while the store is away; absent: as `store.when_down` says."
    )


class AccessConfig(Section):
    """Addresses with special rights; more can be added at run time through the admin API."""

    allow: Networks = Field(default=(), description="Clients that no limit applies to.")
    deny: Networks = Field(
        default=(),
        description="Clients that are answered 403; the most specific network counts, deny on a tie.",
    )
    allow_files: tuple[FilePath, ...] = Field(
        default=(),
        description="Files with more of `allow`: one address or CIDR per line, `#` begins a comment.",
    )
    deny_files: tuple[FilePath, ...] = Field(
        default=(), description="Files with more of `deny`. List files are read again when they change."
    )

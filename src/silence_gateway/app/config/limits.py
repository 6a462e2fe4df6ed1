"""Rate limits and address lists, as the file says them; what they do is in `core/limits.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import (
    FilePath,
    Kind,
    Name,
    Networks,
    choice,
    closest,
    duration,
    whole,
)
from silence_gateway.app.config.matching import LimitMatch
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.store import WHEN_DOWN, WhenDown
from silence_gateway.core.limits import MAX_HOLDERS
from silence_gateway.core.rates import Rate, parse_rate
from silence_gateway.limiting.cost import MAX_COST, ONE, Cost
from silence_gateway.limiting.limit_key import (
    HEADER_NAME,
    IPV6_PREFIX,
    MAX_CLAIM_CHARS,
    MAX_IPV6_PREFIX,
    MIN_IPV6_PREFIX,
)

RATE = Kind("rate", parse_rate, str, {"type": "string", "pattern": r"[0-9]+/[0-9]*[A-Za-z]+"},
            ("100/minute", "5000/s", "10/30s", "10000/month"))  # fmt: skip

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

Algorithm = Literal["sliding_window", "sliding_counter", "token_bucket", "fixed_window", "concurrency"]
ALGORITHM = choice("sliding_window", "sliding_counter", "token_bucket", "fixed_window", "concurrency")
Align = Literal["calendar", "first_hit"]
ALIGN = choice("calendar", "first_hit")
Mode = Literal["enforce", "shadow"]
MODE = choice("enforce", "shadow")

COST_FORMS = "a whole number, header:NAME or response header:NAME"


def parse_cost(text: str) -> Cost:
    """
    Read what one request costs.

    Raises:
        ValueError: If it is neither a number from 1 to a million nor the name of a header.
    """
    head, colon, name = text.partition(":")
    if not colon:
        try:
            return Cost(amount=int(COST_NUMBER.parse(text)))
        except ValueError as exc:
            raise ValueError(f"{exc}, or {COST_FORMS.partition(', ')[2]}") from exc
    name = name.strip()
    if not HEADER_NAME.fullmatch(name):
        raise ValueError(f"{quoted(text)} names no header that gets here: write {COST_FORMS}")
    if head == "header":
        return Cost(header=name.lower().encode())
    if head == "response header":
        return Cost(answer_header=name.lower().encode())
    hint = closest(head, ("header", "response header"))
    raise ValueError(f"{quoted(text)} is not a cost: write {COST_FORMS}{hint}")


def show_cost(cost: Cost) -> object:
    """Return a cost as the file writes it."""
    if cost.header:
        return f"header:{cost.header.decode()}"
    if cost.answer_header:
        return f"response header:{cost.answer_header.decode()}"
    return cost.amount


COST_NUMBER = whole(1, MAX_COST)
COST = Kind(
    "whole number, or header that tells",
    parse_cost,
    show_cost,
    {"oneOf": [COST_NUMBER.json, {"type": "string", "pattern": "(?:response )?header:.+"}]},
    ("1", "header:X-Cost", "response header:X-Tokens"),
)


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
    rate: Annotated[Rate, RATE] | None = Field(
        default=None, description="Uses per window of time; all algorithms but concurrency need it."
    )
    burst: Annotated[int, whole(1, 1_000_000_000)] | None = Field(
        default=None,
        description="Size of the bucket, for token_bucket only; absent: the rate's number of uses.",
    )
    max: Annotated[int, whole(1, MAX_HOLDERS)] | None = Field(
        default=None, description="How many requests may run at once per key, for concurrency only."
    )
    ttl_s: Annotated[float, duration("1s", "24h")] = Field(
        default=30.0,
        alias="ttl",
        description="For concurrency: after how long the place of an instance that died is free.",
    )
    algorithm: Annotated[Algorithm, ALGORITHM] = Field(
        default="sliding_window",
        description=(
            "`sliding_window` is exact over any window; `sliding_counter` keeps two numbers and weighs the "
            "last window; `token_bucket` refills steadily; `fixed_window` is a quota per calendar window; "
            "`concurrency` counts requests that run now."
        ),
    )
    align: Annotated[Align, ALIGN] = Field(
        default="calendar",
        description="Where a fixed_window begins: with the calendar (UTC), or with a key's first use.",
    )
    cost: Annotated[Cost, COST] = Field(
        default=ONE,
        description=(
            "What one request uses up: a number, what one of its headers says, or what a header of the "
            "answer (or a trailer of the gRPC upstream) says afterwards."
        ),
    )
    reserve: Annotated[int, COST_NUMBER] = Field(
        default=1, description="With a cost that the answer tells: uses taken before, settled after."
    )
    block_for_s: Annotated[float, duration("0s", "8784h")] = Field(
        default=0.0,
        alias="block_for",
        description="For how long a key that was refused stays refused; `0s`: until its uses are over.",
    )
    lease: Annotated[int, whole(1, 1_000_000)] | None = Field(
        default=None,
        description=(
            "Uses that an instance may take from the store at a time and spend by itself; absent: every use "
            "is decided in the store, exactly. All together let at most instances x lease more through."
        ),
    )
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

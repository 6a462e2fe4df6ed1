"""Rate limits and address lists, as the file says them; what they do is in `core/limits.py`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import Kind, Name, Networks, choice, closest, whole
from silence_gateway.app.config.matching import LimitMatch
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.section import Section
from silence_gateway.app.config.store import WHEN_DOWN, WhenDown
from silence_gateway.core.rates import Rate, parse_rate

RATE = Kind("rate", parse_rate, str, {"type": "string", "pattern": r"[0-9]+/[0-9]*[A-Za-z]+"},
            ("100/minute", "5000/s", "10/30s"))  # fmt: skip

KEY_WORDS = ("client_ip", "user", "method", "route", "path", "const")
KEY_FORMS = "client_ip, user, header:NAME, method, route, path or const"
LATER_KEYS = ("api_key",)
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,100}")


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
    if text in LATER_KEYS or (colon and head == "claim"):
        raise ValueError(f"the key {quoted(text)} is not supported in this version: write {KEY_FORMS}")
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

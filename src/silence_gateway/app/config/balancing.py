"""How calls are spread over the replicas of a service, and held back when there are too many."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from silence_gateway.app.config.kinds import Kind, choice, closest, duration, number, whole
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.section import Section
from silence_gateway.limiting.limit_key import HEADER_NAME, MAX_CLAIM_CHARS

Balancer = Literal["least_request", "round_robin", "peak_ewma", "consistent_hash", "random"]
BALANCER = choice("least_request", "round_robin", "peak_ewma", "consistent_hash", "random")

KEY_WORDS = ("user", "api_key", "client_ip")
KEY_FORMS = "header:NAME, claim:NAME, cookie:NAME, user, api_key or client_ip"


def parse_key(text: str) -> str:
    """
    Check what `consistent_hash` goes by.

    Raises:
        ValueError: If it is nothing that a request has.
    """
    if text in KEY_WORDS:
        return text
    head, _, name = text.partition(":")
    if head in {"header", "cookie"} and HEADER_NAME.fullmatch(
        name.replace("_", "-") if head == "cookie" else name
    ):
        return f"header:{name.lower()}" if head == "header" else text
    if head == "claim" and 0 < len(name) <= MAX_CLAIM_CHARS:
        return text
    raise ValueError(
        f"{quoted(text)} is not a key to balance by: write {KEY_FORMS}{closest(text, KEY_WORDS)}"
    )


KEY = Kind("key", parse_key, str, {"type": "string"}, ("header:X-Tenant", "claim:sub", "cookie:session"))


class BalancingConfig(Section):
    """How calls are spread over the endpoints of a service."""

    key: Annotated[str, KEY] | None = Field(
        default=None,
        description=(
            "`consistent_hash`: what says whose a request is: `header:NAME`, `claim:NAME`, `cookie:NAME` (a "
            "session), `user`, `api_key` or `client_ip`. Requests without it go anywhere."
        ),
    )
    max_load: Annotated[float, number(1.01, 100)] = Field(
        default=1.25,
        description="`consistent_hash`: times the average load at which an endpoint passes calls on.",
    )
    decay_s: Annotated[float, duration("100ms", "1h")] = Field(
        default=10.0, alias="decay", description="`peak_ewma`: how long a slow answer is remembered."
    )
    slow_start_s: Annotated[float, duration("0s", "1h")] = Field(
        default=0.0,
        alias="slow_start",
        description="Time in which an endpoint that came, or came back, grows to its whole share; 0s: none.",
    )
    overprovisioning: Annotated[float, number(1, 100)] = Field(
        default=1.4,
        description=(
            "Times its even part that an endpoint can take before calls overflow to the next priority or "
            "another zone: at 1.4 that begins when less than 71 % are well."
        ),
    )
    panic_threshold: Annotated[float, number(0, 1)] = Field(
        default=0.0,
        description=(
            "Share of a priority that must be well; with less, all that are connected are used, whatever "
            "health checks and breakers say. 0: never."
        ),
    )
    subset: Annotated[int, whole(0, 1000)] = Field(
        default=0,
        description="Most endpoints per priority and zone that one worker connects to; 0: all of them.",
    )


class ConcurrencyConfig(Section):
    """An adaptive limit of calls in flight; each worker finds its own."""

    initial: Annotated[int, whole(1, 100_000)] = Field(
        default=20,
        description="The limit before anything is known; absent: 20, or the nearest between `min` and `max`.",
    )
    min: Annotated[int, whole(1, 100_000)] = Field(default=4, description="The lowest limit.")
    max: Annotated[int, whole(1, 100_000)] = Field(default=1000, description="The highest limit.")
    tolerance: Annotated[float, number(1, 100)] = Field(
        default=1.5, description="Times longer than usual that calls may take before the limit shrinks."
    )

    @property
    def begins_at(self) -> int:
        """The limit before anything is known: who narrows the bounds need not say it as well."""
        if "initial" in self.model_fields_set:
            return self.initial
        return max(self.min, min(self.initial, self.max))


class SheddingConfig(Section):
    """How long calls may stand in line for a place at the service."""

    target_s: Annotated[float, duration("1ms", "1m")] = Field(
        default=0.005, alias="target", description="Longest wait while the line does not go away."
    )
    interval_s: Annotated[float, duration("2ms", "10m")] = Field(
        default=0.1,
        alias="interval",
        description="Longest wait otherwise, and how long a line must last to count as one that stays.",
    )

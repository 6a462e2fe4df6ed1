"""
What a request would meet at one limit, as the admin API tells it: numbers for programs, words for people.

`meeting` looks it up, which spends nothing; the rest is pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from silence_gateway.core.limits import NEVER, LimitRule, WhenDown
from silence_gateway.core.prospect import Prospect
from silence_gateway.core.waits import moment_text, wait_text
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.limiting.override_entry import Override


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """
    One cost of one key at one limit.

    Attributes:
        own: The limit's own rule.
        rule: The rule in force for the key.
        override: The exception that holds for the key, if one does.
        prospect: What the limit would say.
        cost: Uses.
        verb: How the cost is meant: a request costs them, or reserves them.
        now_us: Microseconds since the epoch.
        shared: Whether the fleet counts together, as far as this instance is set up.
    """

    own: LimitRule
    rule: LimitRule
    override: Override | None
    prospect: Prospect
    cost: int
    verb: str = "costs"
    now_us: int
    shared: bool

    @property
    def free(self) -> bool:
        """Whether an exception frees the key from the limit."""
        return self.override is not None and self.override.unlimited

    @property
    def shut(self) -> bool:
        """Whether an exception blocks the key."""
        return self.override is not None and self.override.blocked

    @property
    def alone(self) -> bool:
        """Whether this instance decides by itself: the store is away."""
        return self.prospect.at_us < 0

    @property
    def begins_block(self) -> bool:
        """Whether the refusal would begin a block."""
        counted = not (self.alone and self.own.when_down is WhenDown.DENY)
        looked = self.prospect
        return (
            bool(self.rule.block_us)
            and looked.retry_after_us > 0
            and not looked.blocked_us
            and not self.shut
            and counted
        )

    @property
    def wait_us(self) -> int:
        """How long the caller would be told to wait; 0 if it passes, NEVER if no wait helps."""
        wait_us = self.prospect.retry_after_us
        return max(wait_us, self.rule.block_us) if self.begins_block else wait_us


async def meeting(limiter: Limiter, name: str, key: str, cost: int, verb: str = "costs") -> Meeting:
    """
    Look up what *cost* would meet.

    Raises:
        NotFound: There is no such limit.
        StoreUnavailable: The store did not answer.
    """
    # Before the trip and not after it: a window that ends at 22:00:00 is not said to end at 22:00:01.
    now_us = limiter.decider.clock.now_us()
    prospect = await limiter.look(name, key, cost)
    decider, own = limiter.decider, limiter.spec(name).rule
    return Meeting(
        own=own,
        rule=decider.rule_of(own, key),
        override=None if decider.overrides is None else decider.overrides.find(name, key),
        prospect=prospect,
        cost=cost,
        verb=verb,
        now_us=now_us,
        shared=decider.here is None,
    )


def told(met: Meeting) -> dict[str, Any]:
    """Return everything about one meeting."""
    prospect, own = met.prospect, met.own
    return {
        "rate": rate_in_force(met),
        "burst": None if met.free or met.shut else met.rule.burst,
        "own_rate": own.size,
        "override": None if met.override is None else described(met.override),
        "limit": prospect.limit,
        "remaining": prospect.remaining,
        "reset_s": seconds(prospect.reset_us),
        "cost": met.cost,
        "allowed": prospect.passes,
        **waiting(met.wait_us, met.now_us),
        "blocked": block_of(met),
        "outcome": outcome_of(met),
        "mode": own.mode.value,
        "counted_by": "fleet" if met.shared and not met.alone else "this instance",
    }


def rate_in_force(met: Meeting) -> str:
    """Return what holds for the key, in a few words."""
    if met.free:
        return "unlimited"
    return "blocked" if met.shut else met.rule.size


def waiting(wait_us: int, now_us: int) -> dict[str, Any]:
    """Return when to try again: nothing if there is no need to, or no use."""
    waits = wait_us > 0
    return {
        "retry_after_s": seconds(wait_us) if waits else None,
        "retry_at_us": now_us + wait_us if waits else None,
    }


def seconds(time_us: int) -> float | None:
    """Return a time in seconds; None for never."""
    return None if time_us == NEVER else time_us / 1_000_000


def block_of(met: Meeting) -> dict[str, Any] | None:
    """Return the block that holds, by what, and for how long; None if none does."""
    left_us = met.prospect.reset_us if met.shut else met.prospect.blocked_us
    if not left_us:
        return None
    return {
        "by": "override" if met.shut else "block_for",
        "left_s": seconds(left_us),
        "until_us": None if left_us == NEVER else met.now_us + left_us,
    }


def outcome_of(met: Meeting) -> str:
    """Return in words what the limit would make of it."""
    if met.free:
        return "passes: its key is unlimited"
    if met.prospect.passes:
        return "passes"
    return ("would refuse, in shadow: " if met.own.shadow else "refuses: ") + reason_of(met)


def reason_of(met: Meeting) -> str:
    """Return why the limit refuses, and until when."""
    prospect, wait_us = met.prospect, met.prospect.retry_after_us
    wait, moment = wait_text(wait_us), moment_text(met.now_us + wait_us)
    if met.shut:
        return "its key is blocked " + ("for ever" if wait_us == NEVER else f"for {wait}, until {moment}")
    if wait_us == NEVER:
        return f"{met.verb} {met.cost}, the whole limit is {prospect.limit}; it can never pass"
    if prospect.blocked_us:
        return f"it was refused before, and block_for blocks its key for {wait}, until {moment}"
    if met.alone and met.own.when_down is WhenDown.DENY:
        return f"the store is away, and when_down is deny; ask again in {wait}"
    if met.rule.kind == "c":
        return f"all {prospect.limit} places are taken; ask again in {wait}"
    said = f"{met.verb} {met.cost}, {prospect.remaining} left; passes in {wait}, at {moment}"
    if met.begins_block:
        said += f", but a refusal now blocks its key for {wait_text(met.rule.block_us)} (block_for)"
    return said


def verdict_of(met: Meeting) -> str:
    """Return whether one more use would pass now, and if not, when."""
    what = "one more use" if met.cost == 1 else f"a use that costs {met.cost}"
    if met.own.kind == "c":
        what = "one more at once"
    if met.prospect.passes:
        return f"{what} passes"
    if met.own.shadow:
        return f"{what} passes: a shadow limit refuses nothing"
    return f"{what} is refused; {retry_words(**waiting(met.wait_us, met.now_us))}"


def retry_words(retry_after_s: float | None, retry_at_us: int | None) -> str:
    """Return when whoever is refused may try again."""
    if retry_after_s is None or retry_at_us is None:
        return "no retry will pass"
    return f"retry after {math.ceil(retry_after_s)} s, at {moment_text(retry_at_us)}"


def described(override: Override) -> dict[str, Any]:
    """Return what holds for a key; what is not said is not there."""
    values = {
        "rate": override.rate,
        "burst": override.burst,
        "max": override.max,
        "unlimited": override.unlimited,
        "blocked": override.blocked,
        "reason": override.reason,
        "by": override.by,
        "added_us": override.added_us,
        "until_us": override.until_us,
    }
    return {name: value for name, value in values.items() if value}

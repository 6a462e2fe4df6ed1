"""
Limits as the caller sees them: `RateLimit-Policy`, `RateLimit`, `X-RateLimit-*` and `Retry-After`.

The first two are those of draft-ietf-httpapi-ratelimit-headers (2025); the `X-` lines are what came
before and what many clients still read. Everything that does not change from request to request is
built once per set of limits. `t` is when the whole quota is back on an allowed answer. On a refusal only
the limits that refused are listed, and their `t` is their wait, so that `Retry-After` never points
earlier than a `t`. Whom a limit counts is never told: there is no `pk`, because a key may be a secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from silence_gateway.core.limits import NEVER, Decision, LimitRule, seconds_rounded_up

POLICY = b"RateLimit-Policy"
QUOTA = b"RateLimit"
RETRY_AFTER = b"Retry-After"
LEGACY_LIMIT = b"X-RateLimit-Limit"
LEGACY_REMAINING = b"X-RateLimit-Remaining"
LEGACY_RESET = b"X-RateLimit-Reset"

REQUESTS = "requests"
"""The unit that the draft takes for granted, so it is not written."""

CONCURRENT = "concurrent-requests"
"""The draft's unit of a quota that is given back when a request ends."""

Lines = list[tuple[bytes, bytes]]


class HeaderForm(StrEnum):
    """Which header fields tell callers about their limits; a refusal has `Retry-After` in each."""

    IETF = "ietf"
    LEGACY = "legacy"
    BOTH = "both"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitPolicy:
    """
    What callers may know of one limit.

    Attributes:
        name: Letters, digits, `_`, `.`, `-`: nothing that a quoted text of the draft would have to escape.
        quota: The most that can be left.
        window_us: In which time the quota comes back; None where that is no one length.
        timed: Whether it is known when it is back: not where uses are given back when requests end.
        unit: What is counted: a unit of the draft's registry.
        shown: Whether callers are told at all.
    """

    name: str
    quota: int
    window_us: int | None
    timed: bool = True
    unit: str = REQUESTS
    shown: bool = True


def policy_of(rule: LimitRule) -> LimitPolicy:
    """
    Describe a limit.

    A bucket is described by what it holds and how long it takes to fill, so that never more is left than
    its quota; a window of months by its quota alone, because no two need be of one length.
    """
    shown = not rule.shadow
    if rule.rate is None:
        return LimitPolicy(
            name=rule.name, quota=rule.capacity, window_us=None, timed=False, unit=CONCURRENT, shown=shown
        )
    if rule.months:
        return LimitPolicy(name=rule.name, quota=rule.capacity, window_us=None, shown=shown)
    window_us = -(-rule.capacity * rule.rate.window_us // rule.rate.count)
    return LimitPolicy(name=rule.name, quota=rule.capacity, window_us=window_us, shown=shown)


class LimitHeaders:
    """
    Header lines for one fixed set of limits; shadow limits are left out of sight.

    Costs 0.6 us per request for one limit.

    Attributes:
        form: Which fields are written.
    """

    __slots__ = ("form", "ietf", "legacy", "policies", "policy_line", "quotas", "single")

    def __init__(self, rules: Sequence[LimitPolicy | LimitRule], form: HeaderForm = HeaderForm.IETF) -> None:
        self.form = form
        self.ietf = form in {HeaderForm.IETF, HeaderForm.BOTH}
        self.legacy = form in {HeaderForm.LEGACY, HeaderForm.BOTH}
        self.policies = [rule if isinstance(rule, LimitPolicy) else policy_of(rule) for rule in rules]
        shown = [(index, policy) for index, policy in enumerate(self.policies) if policy.shown]
        self.policy_line = (POLICY, b", ".join(policy_item(policy) for _, policy in shown))
        self.quotas = [(index, b'"%b";r=' % policy.name.encode(), policy.timed) for index, policy in shown]
        plain = len(self.quotas) == 1 and form is HeaderForm.IETF and self.quotas[0][2]
        self.single = self.quotas[0][:2] if plain else None

    def allowed(self, decisions: Sequence[Decision]) -> Lines:
        """Return the lines of an answer that was let through."""
        if self.single is not None:
            index, start = self.single
            decision = decisions[index]
            return [
                self.policy_line,
                (QUOTA, b"%b%d;t=%d" % (start, decision[2], -(-decision[4] // 1_000_000))),
            ]
        if not self.quotas:
            return []
        lines: Lines = []
        if self.ietf:
            items = [
                quota_item(start, decisions[index].remaining, decisions[index].reset_us if timed else NEVER)
                for index, start, timed in self.quotas
            ]
            lines += [self.policy_line, (QUOTA, b", ".join(items))]
        if self.legacy:
            index, _, timed = min(self.quotas, key=lambda quota: nearness(decisions[quota[0]]))
            lines += legacy_lines(decisions[index], decisions[index].reset_us if timed else NEVER)
        return lines

    def refused(self, decisions: Sequence[Decision], retry_after_us: int) -> Lines:
        """Return the lines of a refusal; without Retry-After if it would never succeed."""
        lines: Lines = []
        refusing = [quota for quota in self.quotas if not decisions[quota[0]].allowed]
        if self.ietf:
            items = [
                quota_item(
                    start, decisions[index].remaining, decisions[index].retry_after_us if timed else NEVER
                )
                for index, start, timed in refusing
            ]
            lines += [self.policy_line, (QUOTA, b", ".join(items))]
        if self.legacy:
            index, _, timed = max(refusing, key=lambda quota: wait_of(decisions[quota[0]]))
            wait_us = decisions[index].retry_after_us
            lines += legacy_lines(decisions[index], wait_us if timed else NEVER)
        if retry_after_us != NEVER:
            lines.append((RETRY_AFTER, b"%d" % seconds_rounded_up(retry_after_us)))
        return lines


def legacy_lines(decision: Decision, reset_us: int) -> Lines:
    """Return the old three lines about one limit; the last is left out where no time is known."""
    lines = [
        (LEGACY_LIMIT, b"%d" % decision.limit),
        (LEGACY_REMAINING, b"%d" % decision.remaining),
    ]
    if reset_us != NEVER:
        lines.append((LEGACY_RESET, b"%d" % seconds_rounded_up(reset_us)))
    return lines


def quota_item(start: bytes, remaining: int, time_us: int) -> bytes:
    """Return what is left of one limit; without `t` where no time is known (NEVER)."""
    if time_us == NEVER:
        return b"%b%d" % (start, remaining)
    return b"%b%d;t=%d" % (start, remaining, seconds_rounded_up(time_us))


def policy_item(policy: LimitPolicy) -> bytes:
    """Describe one limit; the draft has no windows below a second, so those go without `w`."""
    item = b'"%b";q=%d' % (policy.name.encode(), policy.quota)
    if policy.unit != REQUESTS:
        item += b';qu="%b"' % policy.unit.encode()
    if policy.window_us is None or policy.window_us < 1_000_000:
        return item
    return item + b";w=%d" % seconds_rounded_up(policy.window_us)


def nearness(decision: Decision) -> tuple[int, int]:
    """Order decisions by how close they are to refusing: the least left first, then the longest to wait."""
    return decision.remaining, -decision.reset_us


def wait_of(decision: Decision) -> float:
    """Order refusals by how long they hold."""
    return float("inf") if decision.retry_after_us == NEVER else decision.retry_after_us

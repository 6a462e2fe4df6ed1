"""
The rules of the rate limit service: domains, trees of descriptors, and the limits at their leaves.

Only what a rule *is*; which of them a request meets is in `rls_matching.py`, and how the file says them in
`app/config/rls_file.py`. Units are numbered as on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

MAX_REQUESTS = (1 << 32) - 1
"""The most a limit may allow: the field of the protocol has 32 bits."""

MAX_WINDOW_US = 100 * 365 * 86_400 * 1_000_000
"""The longest window: a hundred years, which keeps every sum of times below 2**53, where Lua is exact."""


class Unit(IntEnum):
    """A unit of time, by its number in the protocol."""

    SECOND = 1
    MINUTE = 2
    HOUR = 3
    DAY = 4
    MONTH = 5
    YEAR = 6
    WEEK = 7


UNIT_SECONDS: dict[Unit, int] = {
    Unit.SECOND: 1,
    Unit.MINUTE: 60,
    Unit.HOUR: 3_600,
    Unit.DAY: 86_400,
    Unit.WEEK: 7 * 86_400,
    Unit.MONTH: 30 * 86_400,
    Unit.YEAR: 365 * 86_400,
}


@dataclass(frozen=True, slots=True)
class Limit:
    """
    *requests* in each window of *multiplier* units; windows begin at whole multiples since the Unix epoch.

    Attributes:
        requests: Hits allowed; none at all with 0.
        unit: Unit of the window's length.
        multiplier: How many units a window has.
        name: What callers are told it is called, and what another rule may replace it by; may be empty.
        window_us: Derived: length of a window.

    Raises:
        ValueError: If a number is out of range.
    """

    requests: int
    unit: Unit
    multiplier: int = 1
    name: str = ""
    window_us: int = field(init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.requests <= MAX_REQUESTS:
            raise ValueError(f"a limit allows 0 to {MAX_REQUESTS} requests, not {self.requests}")
        window_us = UNIT_SECONDS[self.unit] * 1_000_000 * self.multiplier
        if not 0 < window_us <= MAX_WINDOW_US:
            raise ValueError(
                f"a window of {self.multiplier} {self.unit.name.lower()}s is not from 1s to 100 years"
            )
        object.__setattr__(self, "window_us", window_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """
    What happens to requests that a branch of the tree is about.

    Attributes:
        limit: How many may pass; None lets all pass, uncounted.
        replaces: Names of limits that are left out where this rule is met in the same request.
        shadow: Count and report, but never refuse.
        quota: Refuse only together with all other rules of this kind that the request meets.
        detailed_metric: Statistics for each combination of values, not for the rule.
        metadata: What callers are told while the limit is not reached, as JSON values.
    """

    limit: Limit | None
    replaces: tuple[str, ...] = ()
    shadow: bool = False
    quota: bool = False
    detailed_metric: bool = False
    metadata: Mapping[str, Any] | None = None


class Wildcard:
    """
    A text in which each `*` stands for any characters, also none.

    No regular expression: with several stars those take time without a useful bound on a text that a caller
    chooses, and this one looks at each character at most once per part.
    """

    __slots__ = ("first", "last", "least", "middle")

    def __init__(self, text: str) -> None:
        self.first, *middle, self.last = text.split("*")
        self.middle = tuple(part for part in middle if part)
        self.least = len(text) - text.count("*")

    def matches(self, value: str) -> bool:
        """Whether it covers *value*."""
        if len(value) < self.least or not value.startswith(self.first) or not value.endswith(self.last):
            return False
        at, end = len(self.first), len(value) - len(self.last)
        for part in self.middle:
            found = value.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """
    One descriptor of the file.

    Attributes:
        key: Key of the entries it is about; may hold `*`.
        value: Their value; may hold `*`. Empty: any value that no other branch is about.
        rule: What happens to requests that end here; None if nothing does.
        value_to_metric: Statistics name the value that came, where this branch does not name one.
        share_threshold: All values that match its `*` count together.
        inner: What entries may follow.
    """

    key: str
    value: str = ""
    rule: Rule | None = None
    value_to_metric: bool = False
    share_threshold: bool = False
    inner: Level = field(default_factory=lambda: Level(()))


class Pattern:
    """A branch with a `*` in its key or value."""

    __slots__ = ("branch", "key", "value")

    def __init__(self, branch: Branch) -> None:
        self.branch = branch
        self.key = Wildcard(branch.key) if "*" in branch.key else None
        # No value is any value, where it is the key that has the star.
        self.value = Wildcard(branch.value or "*") if "*" in (branch.value or "*") else None

    def matches(self, key: str, value: str) -> bool:
        """Whether it is about an entry of *key* and *value*."""
        if not (self.branch.key == key if self.key is None else self.key.matches(key)):
            return False
        return self.branch.value == value if self.value is None else self.value.matches(value)


class Level:
    """
    The branches of one depth, arranged for finding one in two look-ups where none has a `*`.

    Attributes:
        branches: All of them, in the order of the file.

    Raises:
        ValueError: Two of them have the same key and value.
    """

    __slots__ = ("branches", "by_key", "by_value", "patterns")

    def __init__(self, branches: Sequence[Branch]) -> None:
        self.branches = tuple(branches)
        self.by_value = {(branch.key, branch.value): branch for branch in branches if branch.value}
        self.by_key = {branch.key: branch for branch in branches if not branch.value}
        self.patterns = tuple(Pattern(branch) for branch in branches if "*" in branch.key + branch.value)
        if len(self.by_value) + len(self.by_key) < len(self.branches):
            raise ValueError("two descriptors have the same key and value")

    def __bool__(self) -> bool:
        return bool(self.branches)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """
    Everything that was loaded.

    Attributes:
        domains: The outermost level of each domain, by name.
        warnings: What loads but may surprise, one line each, `file:line:col: message`.
    """

    domains: Mapping[str, Level]
    warnings: tuple[str, ...] = ()

    def rules(self) -> Iterator[tuple[str, Rule]]:
        """Go through every rule with its full name: `domain.key_value.key_value`."""
        for domain, level in self.domains.items():
            yield from rules_below(domain, level)


def rules_below(path: str, level: Level) -> Iterator[tuple[str, Rule]]:
    """Go through the rules of *level* and below; files nest no deeper than 32."""
    for branch in level.branches:
        name = f"{path}.{branch.key}_{branch.value}" if branch.value else f"{path}.{branch.key}"
        if branch.rule is not None:
            yield name, branch.rule
        yield from rules_below(name, branch.inner)

"""
Which rule a descriptor of a request meets, under which name it is counted for people, and in which counter.

At each depth the most specific branch is taken and never another one: key and value, else the first with a
`*` that fits, else the key alone. A rule is met only by descriptors of exactly its depth. Key and value are
compared apart, so that the entry (a, b_c) is never taken for (a_b, c).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from silence_gateway.core.rls_rules import Branch, Level, Rule

Entry: TypeAlias = tuple[str, str]
"""Key and value of one part of a descriptor; the value may be empty."""

PLAIN = re.compile(r"[A-Za-z0-9_.@/+=,-]*", re.ASCII)
ODD = re.compile(rb"[^A-Za-z0-9_.@/+-]")
MAX_KEY = 120
HASH_BYTES = 20


class Match(NamedTuple):
    """
    The rule that a descriptor meets.

    Attributes:
        rule: The rule.
        statistic: Name that it is counted under: `domain.key_value.key`.
        counted: The entries as the counter sees them: where values share a threshold, with `*` in them.
    """

    rule: Rule
    statistic: str
    counted: Sequence[Entry]


def match(domain: str, level: Level, entries: Sequence[Entry]) -> Match | None:
    """
    Return the rule that *entries* meet in *domain*, whose outermost level is *level*.

    Returns:
        None if there is none, and nothing is to be counted.
    """
    statistic = domain
    counted: list[Entry] | None = None
    branch: Branch | None = None
    for index, (key, value) in enumerate(entries):
        if branch is not None:
            level = branch.inner
        branch, shown = find(level, key, value)
        if branch is None:
            return None
        if branch.share_threshold:
            counted = list(entries) if counted is None else counted
            counted[index] = (key, branch.value)
        statistic = f"{statistic}.{key}_{shown}" if shown else f"{statistic}.{key}"
    if branch is None or branch.rule is None:
        return None
    if branch.rule.detailed_metric:
        statistic = detailed_statistic(domain, entries, counted)
    return Match(branch.rule, statistic, entries if counted is None else counted)


def find(level: Level, key: str, value: str) -> tuple[Branch | None, str]:
    """Return the branch of *level* that an entry takes, and the value that statistics show for it."""
    branch = level.by_value.get((key, value))
    if branch is not None:
        return branch, value
    for pattern in level.patterns:
        if pattern.matches(key, value):
            branch = pattern.branch
            shown = value if branch.value_to_metric and not branch.share_threshold else branch.value
            return branch, shown
    branch = level.by_key.get(key)
    return branch, value if branch is not None and branch.value_to_metric else ""


def detailed_statistic(domain: str, entries: Sequence[Entry], counted: Sequence[Entry] | None) -> str:
    """Return a name with every value that came; with `*` where values share a threshold."""
    if counted is None:
        return ".".join([domain, *(f"{key}_{value}" for key, value in entries)])
    return ".".join([domain, *(f"{key}_{value}" if value else key for key, value in counted)])


def override_statistic(domain: str, entries: Sequence[Entry]) -> str:
    """Return the name under which a limit that the caller brought is counted."""
    return f"{domain}." + ".".join(f"{key}_{value}" if value else key for key, value in entries)


def counter_key(entries: Sequence[Entry]) -> str:
    """
    Return the key of the counter of *entries*: `key=value,key=value`, escaped and of bounded length.

    Different entries have different keys. What is not a letter, digit or one of `_.@/+-` is written `~XX`;
    a key that would be too long is `~~` and its hash, which no escaping makes.
    """
    text = ",".join([f"{key}={value}" for key, value in entries])
    # As many separators as there have to be: none of them came from the caller.
    if (
        len(text) <= MAX_KEY
        and PLAIN.fullmatch(text)
        and text.count("=") == len(entries)
        and text.count(",") == len(entries) - 1
    ):
        return text
    text = ",".join([f"{escaped(key)}={escaped(value)}" for key, value in entries])
    if len(text) <= MAX_KEY:
        return text
    return "~~" + blake2b(text.encode(), digest_size=HASH_BYTES).hexdigest()


def escaped(text: str) -> str:
    """Return *text* with nothing in it that separates."""
    return ODD.sub(lambda found: b"~%02X" % found[0][0], text.encode("utf-8", "surrogatepass")).decode()

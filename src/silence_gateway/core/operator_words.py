"""
What operators said about endpoints, and which of it counts: the later word.

Instances that cannot reach each other hear different words, and hear them late. So no word is overwritten by
another instance: each has its own place, and whoever has heard the same words finds the same one in force. A
word ends in one of three ways: its time is over, a later one came, or a mark says that all before it is taken
back. Marks outlive the words that they end, wherever those may come from.

A word is dated by the clock of the instance that was told, but never before one that it had heard. Only words
of instances that could not hear each other are compared by clocks that may differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeAlias, TypeVar

from silence_gateway.core.fleet_facts import number, read, text, written

Moment: TypeAlias = tuple[int, str]
"""When a word was said, in microseconds since the Unix epoch, and to whom; both together have an order."""


class Word(Protocol):
    """Something said: when, and to which instance."""

    @property
    def said_us(self) -> int:
        """When, in microseconds since the Unix epoch on the clock of that instance."""

    @property
    def by(self) -> str:
        """Which instance was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainFact:
    """
    An endpoint shall get no new calls until somebody says otherwise.

    Attributes:
        said_us: When that was said, in microseconds since the Unix epoch.
        by: Which instance was told.
        who: Who told it, as far as it knows.
        reason: Why, in the operator's words.
    """

    said_us: int
    by: str
    who: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkFact:
    """
    Whatever was said before is taken back.

    Attributes:
        said_us: Before when, in microseconds since the Unix epoch.
        by: Which instance was told.
        who: Who told it, as far as it knows.
        reason: Why, in the operator's words.
    """

    said_us: int
    by: str
    who: str = ""
    reason: str = ""


W = TypeVar("W", bound=Word)


@dataclass(slots=True)
class Matter(Generic[W]):
    """
    All that was said about one thing.

    Attributes:
        words: What holds until it is taken back, by the instance that was told.
        marks: What was taken back, likewise.
    """

    words: dict[str, W] = field(default_factory=dict)
    marks: dict[str, MarkFact] = field(default_factory=dict)

    @property
    def mark(self) -> MarkFact | None:
        """The latest mark."""
        return latest(self.marks)

    @property
    def in_force(self) -> W | None:
        """The word that counts; None if everything was taken back or is over."""
        word, mark = latest(self.words), self.mark
        return None if word is None or (mark is not None and moment(word) < moment(mark)) else word

    def hear(self, word: W) -> None:
        """Take note of a word, unless the same instance has said a later one."""
        known = self.words.get(word.by)
        if known is None or moment(known) < moment(word):
            self.words[word.by] = word

    def hear_mark(self, mark: MarkFact) -> None:
        """Take note of a mark, unless the same instance has set a later one."""
        known = self.marks.get(mark.by)
        if known is None or moment(known) < moment(mark):
            self.marks[mark.by] = mark

    def next_us(self, now_us: int) -> int:
        """Return the date of what is said at *now_us*: later than all that was heard."""
        heard = [fact.said_us for fact in (latest(self.words), self.mark) if fact is not None]
        return max([now_us, *(said_us + 1 for said_us in heard)])


F = TypeVar("F", bound=Word)


def latest(facts: Mapping[str, F]) -> F | None:
    """Return the latest of *facts*."""
    return max(facts.values(), key=moment, default=None)


def moment(word: Word) -> Moment:
    """Return when *word* was said, for comparisons."""
    return word.said_us, word.by


def written_drain(fact: DrainFact) -> bytes:
    """Return *fact* as it goes on the board."""
    return written({"said_us": fact.said_us, "by": fact.by, "who": fact.who, "reason": fact.reason})


def read_drain(value: bytes) -> DrainFact:
    """
    Return the drain in *value*.

    Raises:
        ValueError: If it is not one.
    """
    fields = read(value)
    return DrainFact(
        said_us=number(fields, "said_us"),
        by=text(fields, "by"),
        who=text(fields, "who"),
        reason=text(fields, "reason"),
    )


def written_mark(fact: MarkFact) -> bytes:
    """Return *fact* as it goes on the board."""
    return written({"said_us": fact.said_us, "by": fact.by, "who": fact.who, "reason": fact.reason})


def read_mark(value: bytes) -> MarkFact:
    """
    Return the mark in *value*.

    Raises:
        ValueError: If it is not one.
    """
    fields = read(value)
    return MarkFact(
        said_us=number(fields, "said_us"),
        by=text(fields, "by"),
        who=text(fields, "who"),
        reason=text(fields, "reason"),
    )

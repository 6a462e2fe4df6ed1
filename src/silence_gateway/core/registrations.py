"""What a service says about itself when it registers: read and written, and nothing believed unread."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

MAX_FACT_BYTES = 512
MAX_WEIGHT = 100
MAX_PRIORITY = 1000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""A name, as configuration has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationFact:
    """
    One address, as its service describes it.

    Attributes:
        weight: Its share of the calls, 1 to 100.
        priority: Lower is used first, 0 to 1000.
        zone: Where it is; empty if that does not matter.
        by: Who says so: random, new with every registration.

    Raises:
        ValueError: If a number is out of range, or the zone is no name.
    """

    weight: int = 1
    priority: int = 0
    zone: str = ""
    by: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"weight must be 1 to {MAX_WEIGHT}, got {self.weight}")
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise ValueError(f"priority must be 0 to {MAX_PRIORITY}, got {self.priority}")
        if self.zone and not NAME.fullmatch(self.zone):
            raise ValueError(f"a zone is a name of letters, digits, '-', '_' and '.', got {self.zone[:80]!r}")


def written_registration(fact: RegistrationFact) -> bytes:
    """Return *fact* as the store keeps it."""
    said = {"weight": fact.weight, "priority": fact.priority, "by": fact.by}
    if fact.zone:
        said["zone"] = fact.zone
    return json.dumps(said, separators=(",", ":")).encode()


def read_registration(value: bytes) -> RegistrationFact:
    """
    Return the fact that *value* holds; what it does not know is left out.

    Raises:
        ValueError: It is none; anybody who may write to the store can write anything.
    """
    if len(value) > MAX_FACT_BYTES:
        raise ValueError("a registration is too long")
    try:
        said = json.loads(value)
    except RecursionError:
        raise ValueError("a registration is nested too deeply") from None
    if not isinstance(said, dict):
        raise ValueError("a registration is no mapping")  # noqa: TRY004 - callers know one error for all of it
    weight, priority = said.get("weight", 1), said.get("priority", 0)
    by, zone = said.get("by", ""), said.get("zone", "")
    numbers = type(weight) is int and type(priority) is int
    if not (numbers and isinstance(by, str) and isinstance(zone, str)):
        raise ValueError("a registration holds numbers and texts")
    return RegistrationFact(weight=weight, priority=priority, zone=zone, by=by)

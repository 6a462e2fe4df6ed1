"""What a service says about itself when it registers: read and written, and nothing believed unread."""

from __future__ import annotations

import json
from dataclasses import dataclass

MAX_FACT_BYTES = 512
MAX_WEIGHT = 100
MAX_PRIORITY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationFact:
    """
    One address, as its service describes it.

    Attributes:
        weight: Its share of the calls, 1 to 100.
        priority: Lower is used first, 0 to 1000.
        by: Who says so: random, new with every registration.

    Raises:
        ValueError: If a number is out of range.
    """

    weight: int = 1
    priority: int = 0
    by: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.weight <= MAX_WEIGHT:
            raise ValueError(f"weight must be 1 to {MAX_WEIGHT}, got {self.weight}")
        if not 0 <= self.priority <= MAX_PRIORITY:
            raise ValueError(f"priority must be 0 to {MAX_PRIORITY}, got {self.priority}")


def written_registration(fact: RegistrationFact) -> bytes:
    """Return *fact* as the store keeps it."""
    return json.dumps(
        {"weight": fact.weight, "priority": fact.priority, "by": fact.by}, separators=(",", ":")
    ).encode()


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
    weight, priority, by = said.get("weight", 1), said.get("priority", 0), said.get("by", "")
    if type(weight) is not int or type(priority) is not int or not isinstance(by, str):
        raise ValueError("a registration holds numbers and a text")
    return RegistrationFact(weight=weight, priority=priority, by=by)

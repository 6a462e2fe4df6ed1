"""An endpoint for the tests of balancing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(eq=False)
class Busy:
    """A candidate with a name."""

    name: str = ""
    in_flight: int = 0
    penalty: int = 0
    share: int = 1
    rtt_s: float = 0.0

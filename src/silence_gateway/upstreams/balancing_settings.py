"""How calls are spread over the endpoints of an upstream. Checked here once, like `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass

from silence_gateway.core.balancing.priorities import OVERPROVISIONING
from silence_gateway.core.endpoints import Spread
from silence_gateway.errors import ConfigError

BALANCERS = ("least_request", "round_robin", "random", "peak_ewma", "consistent_hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancingSettings:
    """
    Everything about balancing but the rule's name.

    Attributes:
        max_load: `consistent_hash`: how many times the average an endpoint may be loaded before further
            calls go to the next one.
        decay_s: `peak_ewma`: how long a slow answer is remembered.
        slow_start_s: How long an endpoint that came takes to reach its whole share; 0 gives it at once.
        overprovisioning: How much more than its even part of the calls an endpoint can take, before calls
            overflow to the next priority or another zone.
        panic_threshold: Part of a priority that must be ready, or all its connected endpoints are used; 0
            never does that.
        zone: Where this instance is; empty looks at no zones.
        subset: Most endpoints per priority and zone that this instance connects to; 0 connects to all.
        instance: Name by which this instance chooses its subset; empty takes a random one.

    Raises:
        ConfigError: If a number is out of range.
    """

    max_load: float = 1.25
    decay_s: float = 10.0
    slow_start_s: float = 0.0
    overprovisioning: float = OVERPROVISIONING
    panic_threshold: float = 0.0
    zone: str = ""
    subset: int = 0
    instance: str = ""

    def __post_init__(self) -> None:
        wrong: list[str] = []
        if not 1 < self.max_load <= 100:
            wrong.append(f"max_load must be above 1 and at most 100, got {self.max_load}")
        if not 0 < self.decay_s <= 3600:
            wrong.append(f"decay_s must be above 0 and at most 3600, got {self.decay_s}")
        if not 0 <= self.slow_start_s <= 3600:
            wrong.append(f"slow_start_s must be 0 to 3600, got {self.slow_start_s}")
        if not 1 <= self.overprovisioning <= 100:
            wrong.append(f"overprovisioning must be 1 to 100, got {self.overprovisioning}")
        if not 0 <= self.panic_threshold <= 1:
            wrong.append(f"panic_threshold must be 0 to 1, got {self.panic_threshold}")
        if self.subset < 0:
            wrong.append(f"subset must be 0 or more, got {self.subset}")
        if wrong:
            raise ConfigError([f"balancing: {text}" for text in wrong])

    @property
    def spread(self) -> Spread:
        """What `core.endpoints` is told."""
        return Spread(
            overprovisioning=self.overprovisioning, panic_threshold=self.panic_threshold, zone=self.zone
        )

"""
What one kind of lane has done, in plain integers, for whoever counts it.

All lanes of a kind share one of these: a shard of a cluster may come and go, and a count never falls.
"""

from __future__ import annotations

from silence_gateway.core.histogram import Histogram


class LaneCounts:
    """
    Counts of a kind of lane since the start.

    Attributes:
        calls: Commands sent.
        batches: Writes that they travelled in.
        expired: Commands whose answer did not come in time.
        overflowed: Commands that were refused because too many waited.
        connects: Connections made.
        loads: Scripts loaded.
        latency: From sending the commands of one loop tick to the last of their answers.
    """

    __slots__ = ("batches", "calls", "connects", "expired", "latency", "loads", "overflowed")

    def __init__(self) -> None:
        self.calls = self.batches = self.expired = self.overflowed = self.connects = self.loads = 0
        self.latency = Histogram()

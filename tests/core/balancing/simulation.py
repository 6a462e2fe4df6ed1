"""
A fleet of servers on a made-up clock: calls arrive by chance, each server works on a few at once, and the
rest stand in line there. Everything follows from a seed, so a figure is the same on every machine.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from tests.core.balancing.candidate import Busy

from silence_gateway.core.balancing.candidates import SILENT_S, faded, raised
from silence_gateway.core.balancing.peak_ewma import forgotten, observed

DECAY_S = 10.0

Choose: TypeAlias = Callable[[list["Server"], Random], "Server"]


@dataclass(eq=False)
class Server(Busy):
    """
    One server as its callers see it, and as it is.

    Attributes:
        mean_s: How long it works on a call, on average.
        parallel: How many it works on at once.
        stalls_s: From when to when it answers nothing.
        heard_s: When it last answered.
        served: Calls it has answered.
    """

    mean_s: float = 0.01
    parallel: int = 4
    stalls_s: tuple[float, float] = (0.0, 0.0)
    heard_s: float = 0.0
    served: int = 0
    working: int = 0
    line: deque[float] = field(default_factory=deque)


def simulated(
    servers: list[Server], choose: Choose, *, rate: float, calls: int = 6000, seed: int = 1
) -> list[float]:
    """Return how long each call took, in seconds, in the order they ended. *rate* is calls per second."""
    rng = Random(seed)
    took_s: list[float] = []
    # Time, a number that makes every event different, what happens, who, and when its call came.
    events: list[tuple[float, int, str, Server | None, float]] = [(0.0, 0, "comes", None, 0.0)]
    count, arrived = 1, 0

    def later(at_s: float, what: str, server: Server | None, since_s: float) -> None:
        nonlocal count
        heapq.heappush(events, (at_s, count, what, server, since_s))
        count += 1

    def work(server: Server, now_s: float, since_s: float) -> None:
        server.working += 1
        done_s = now_s + rng.expovariate(1 / server.mean_s)
        begins_s, ends_s = server.stalls_s
        if begins_s <= done_s < ends_s:
            done_s = ends_s + rng.random() * server.mean_s
        later(done_s, "ends", server, since_s)

    later(1.0, "second", None, 0.0)
    while len(took_s) < calls:
        now_s, _, what, server, since_s = heapq.heappop(events)
        if what == "comes":
            arrived += 1
            chosen = choose(servers, rng)
            chosen.in_flight += 1
            if chosen.working < chosen.parallel:
                work(chosen, now_s, now_s)
            else:
                chosen.line.append(now_s)
            if arrived < calls:
                later(now_s + rng.expovariate(rate), "comes", None, 0.0)
        elif what == "second":
            for one in servers:
                _second_passed(one, now_s)
            later(now_s + 1.0, "second", None, 0.0)
        elif server is not None:
            server.in_flight -= 1
            server.working -= 1
            server.served += 1
            took_s.append(now_s - since_s)
            server.rtt_s = observed(server.rtt_s, now_s - since_s, now_s - server.heard_s, DECAY_S)
            server.heard_s = now_s
            if server.line:
                work(server, now_s, server.line.popleft())
    return took_s


def _second_passed(server: Server, now_s: float) -> None:
    if not server.in_flight:
        server.penalty = faded(server.penalty)
        server.rtt_s = forgotten(server.rtt_s, now_s - server.heard_s, DECAY_S)
        server.heard_s = now_s
    elif now_s - server.heard_s >= SILENT_S:
        server.penalty = raised(server.penalty)
        server.rtt_s = max(server.rtt_s, now_s - server.heard_s)


def quantile(values: list[float], part: float) -> float:
    """Return the value below which *part* of all lie."""
    return sorted(values)[int(part * len(values))]

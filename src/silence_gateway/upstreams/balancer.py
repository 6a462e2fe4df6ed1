"""
The balancer of one upstream: candidates in, endpoint out.

What it draws from is prepared when the candidates change (`prepare`); a call only draws (`pick`: 0.2 us in
turn or at random, 0.5 the less busy of two, 0.7 the cheaper, 0.4 by key; with the connection it is 0.5 to
1.3 us). The rules are pure and in
`core/balancing/`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import TypeAlias

from silence_gateway.core.balancing.consistent_hash import (
    HASH_BITS,
    Ring,
    pick_by_key,
    points_per_share,
    ring_of,
)
from silence_gateway.core.balancing.least_request import pick_less_busy
from silence_gateway.core.balancing.peak_ewma import pick_cheaper
from silence_gateway.core.balancing.random_choice import pick_at_random
from silence_gateway.core.balancing.round_robin import pick_in_turn
from silence_gateway.core.balancing.shares import repeated, smooth_order
from silence_gateway.upstreams.balancing_settings import BalancingSettings
from silence_gateway.upstreams.endpoint import Endpoint

Pick: TypeAlias = Callable[["int | None"], Endpoint]
"""Takes a call's key; only `consistent_hash` looks at it."""

Candidates: TypeAlias = "tuple[float, tuple[Endpoint, ...], int]"
"""The part of all calls, who may take them, and the weight of all that belong there, well or not."""


class Balancer:
    """
    Draws endpoints.

    *in_flight* tells how many calls the upstream has in flight; `consistent_hash` bounds loads by it.

    Attributes:
        ready: All candidates, each once, those of the first group first.
    """

    def __init__(
        self, name: str, settings: BalancingSettings, *, rng: Random, in_flight: Callable[[], int]
    ) -> None:
        self.ready: tuple[Endpoint, ...] = ()
        self._settings = settings
        self._draw = rng.random
        self._in_flight = in_flight
        # Many gateways that start together would otherwise all begin with the first one.
        self._turn = rng.getrandbits(16)
        self._prepared: tuple[Candidates, ...] = ()
        self._shares: tuple[int, ...] = ()
        self._bounds: tuple[float, ...] = ()
        self._picks: tuple[Pick, ...] = ()
        self._prepare: Callable[[tuple[Endpoint, ...], int], Pick] = {
            "least_request": self._less_busy,
            "round_robin": self._in_turn,
            "random": self._at_random,
            "peak_ewma": self._cheaper,
            "consistent_hash": self._by_key,
        }[name]

    def prepare(self, groups: Sequence[Candidates]) -> None:
        """Draw from *groups* from now on; their parts add up to 1, or there are none."""
        ready = tuple(endpoint for _, members, _ in groups for endpoint in members)
        shares = tuple(endpoint.share for endpoint in ready)
        if tuple(groups) == self._prepared and shares == self._shares:
            return
        self._prepared, self._shares, self.ready = tuple(groups), shares, ready
        self._picks = tuple(self._prepare(members, total) for _, members, total in groups)
        # The last bound is left out: whatever is above the one before it belongs to the last group.
        self._bounds = tuple(accumulate(part for part, _, _ in groups))[:-1]

    def pick(self, key: int | None) -> Endpoint:
        """
        Return who gets a call; *key* says whose it is.

        Raises:
            IndexError: If nobody is ready.
        """
        bounds = self._bounds
        if not bounds:
            return self._picks[0](key)
        # By key, one key is always sent to one group, as long as their parts stay the same. The key is
        # turned round because its upper bits also say where on the ring it is.
        drawn = self._draw() if key is None else _turned(key) / 2**HASH_BITS
        return self._picks[bisect_right(bounds, drawn)](key)

    def pick_among(self, candidates: Sequence[Endpoint]) -> Endpoint:
        """
        Return who of *candidates* gets a call that is offered again: the less busy of two, whatever the rule.

        Raises:
            ValueError: If there are none.
        """
        return pick_less_busy(candidates, self._draw())

    def _in_turn(self, members: tuple[Endpoint, ...], _total: int) -> Pick:
        order = tuple(members[index] for index in smooth_order([one.share for one in members]))

        def pick(_key: int | None) -> Endpoint:
            self._turn += 1
            return pick_in_turn(order, self._turn)

        return pick

    def _at_random(self, members: tuple[Endpoint, ...], _total: int) -> Pick:
        order, draw = repeated(members, [one.share for one in members]), self._draw
        return lambda _key: pick_at_random(order, draw())

    def _less_busy(self, members: tuple[Endpoint, ...], _total: int) -> Pick:
        order, draw = repeated(members, [one.share for one in members]), self._draw
        return lambda _key: pick_less_busy(order, draw())

    def _cheaper(self, members: tuple[Endpoint, ...], _total: int) -> Pick:
        order, draw = repeated(members, [one.share for one in members]), self._draw
        return lambda _key: pick_cheaper(order, draw())

    def _by_key(self, members: tuple[Endpoint, ...], total: int) -> Pick:
        # Slow start does not touch the ring: keys would move in and out again.
        weights = [one.weight for one in members]
        # Made when the first call asks: a big fleet that connects changes a thousand times in a second.
        ring: Ring[Endpoint] | None = None
        anybody = self._less_busy(members, total)
        in_flight, max_load = self._in_flight, self._settings.max_load

        def pick(key: int | None) -> Endpoint:
            nonlocal ring
            if key is None:
                return anybody(None)
            if ring is None:
                names = [one.address for one in members]
                ring = ring_of(names, members, weights, points_per_share(total))
            return pick_by_key(ring, key, in_flight(), max_load)

        return pick


def _turned(key: int) -> int:
    half = HASH_BITS // 2
    return (key >> half) | (key & (1 << half) - 1) << half

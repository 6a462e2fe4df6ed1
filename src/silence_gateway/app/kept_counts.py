"""
Counts of workers that are gone, so that the fleet's totals never fall.

A counter that falls is a restart to Prometheus, which then takes all that is left for new: one dead
worker would look like a burst of every request that the others have ever served. What a worker counted
after it was last asked is lost with it; what was shown once stays.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from silence_gateway.watch.families import Family, merged


class KeptCounts:
    """Remembers the last answer of every worker, and adds up the counts of those that have ended."""

    def __init__(self) -> None:
        self._last: dict[str, Sequence[Family]] = {}
        self._ended: Sequence[Family] = ()

    def with_all(
        self, answers: Mapping[str, Sequence[Family]], running: Collection[str]
    ) -> list[Sequence[Family]]:
        """
        Return everything that belongs in the totals.

        Args:
            answers: What the workers answered, by a name that no later worker has.
            running: Names of the workers that run; of one that did not answer the last counts stand.
        """
        self._last.update(answers)
        for name in [name for name in self._last if name not in running]:
            self._ended = merged([self._ended, counts_of(self._last.pop(name))])
        silent = [counts_of(last) for name, last in self._last.items() if name not in answers]
        return [*(last for name, last in self._last.items() if name in answers), *silent, self._ended]


def counts_of(families: Sequence[Family]) -> list[Family]:
    """Return what only ever grows: a gauge of a worker that is gone says nothing any more."""
    return [family for family in families if family.kind != "gauge"]

"""
Leaves endpoints alone for a while that fail where their peers do not.

Who that is, is decided in `core/outliers.py`. Success rates are compared over the calls of the whole fleet:
one instance may have too few of them to tell. Who saw no failure itself ejects nobody, because what others
see may be their network; so rows of failures count for this instance alone. Nothing here runs for a call that
went well: rows of failures are told by the count of good answers, which the ledger keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from silence_gateway.clock import Clock
from silence_gateway.core.outliers import Tally, below_the_mean, ejection_us, may_eject
from silence_gateway.events import EndpointEjected, EndpointReturned, Observer
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.settings import OutlierSettings, UpstreamSettings


class Record:
    """What is remembered about one endpoint: its row of failures, and what was counted at the last look."""

    __slots__ = ("calls", "failures", "good", "row", "times", "was_out")

    def __init__(self) -> None:
        self.good = 0
        self.row = 0
        self.calls = 0
        self.failures = 0
        self.times = 0
        self.was_out = False


class Outliers:
    """Ejects endpoints of one upstream. *on_change* is called after each ejection and return."""

    def __init__(
        self,
        settings: UpstreamSettings,
        endpoints: Mapping[str, Endpoint],
        *,
        clock: Clock,
        observer: Observer,
        on_change: Callable[[], None],
        fleet: Fleet | None = None,
    ) -> None:
        self._fleet = fleet
        self._upstream = settings.name
        self._settings = settings.outliers
        self._endpoints = endpoints
        self._clock = clock
        self._observer = observer
        self._on_change = on_change
        self._records: dict[Endpoint, Record] = {}

    def failed(self, endpoint: Endpoint) -> None:
        """Take note of a failed call; so many in a row eject the endpoint."""
        if self._settings is None:
            return
        record = self._records.setdefault(endpoint, Record())
        record.row = record.row + 1 if record.good == endpoint.codes[0] else 1
        record.good = endpoint.codes[0]
        record.failures += 1
        if record.row >= self._settings.consecutive:
            self._eject(self._settings, endpoint, record, f"{record.row} failures in a row")

    def answered(self, endpoint: Endpoint) -> None:
        """Take note of an answer that was an error and no failure: it ends a row."""
        record = self._records.get(endpoint)
        if record is not None:
            record.row = 0

    async def watch(self) -> None:
        """Compare endpoints every interval, until cancelled; returns at once if nobody shall."""
        settings = self._settings
        while settings is not None:
            await self._clock.sleep(settings.interval_s)
            self._compare(settings)

    def _compare(self, settings: OutlierSettings) -> None:
        endpoints = list(self._endpoints.values())
        self._records = {one: self._records.get(one, Record()) for one in endpoints}
        tallies: list[Tally] = []
        for endpoint, record in self._records.items():
            calls = sum(endpoint.codes)
            tallies.append(Tally(calls - record.calls, record.failures))
            record.calls, record.failures = calls, 0
            # Only a whole interval of good behaviour shortens the next ejection.
            if not endpoint.ejected and not record.was_out:
                record.times = max(0, record.times - 1)
            record.was_out = endpoint.ejected
        everybodys = self._with_others(self._fleet, settings, tallies) if self._fleet is not None else tallies
        for index in below_the_mean(everybodys):
            if not tallies[index].failures:
                continue
            endpoint, share = endpoints[index], everybodys[index].success
            reason = f"{share:.0%} of its calls went well, fewer than those of its peers"
            self._eject(settings, endpoint, self._records[endpoint], reason)

    def _with_others(self, fleet: Fleet, settings: OutlierSettings, own: list[Tally]) -> list[Tally]:
        """Return *own* tallies and what the other instances counted lately, added up; tell them ours."""
        # Each instance compares at moments of its own: the others' last word is up to an interval old.
        window_s = 1.5 * settings.interval_s
        others = [Tally(*fleet.tallies.of_others(address, 0, window_s)) for address in self._endpoints]
        # Rates are compared, so if anybody fails the counts of those that do not are wanted too.
        anybody_fails = any(tally.failures for tally in (*own, *others))
        for address, tally in zip(self._endpoints, own, strict=True):
            if anybody_fails:
                fleet.tallies.tell(
                    address, (tally.calls, tally.failures), term=0, window_s=window_s, anyway=True
                )
        return [
            Tally(mine.calls + theirs.calls, mine.failures + theirs.failures)
            for mine, theirs in zip(own, others, strict=True)
        ]

    def _eject(self, settings: OutlierSettings, endpoint: Endpoint, record: Record, reason: str) -> None:
        here = [one for one in self._endpoints.values() if not one.removed]
        ejected = sum(one.ejected for one in here)
        if endpoint.ejected or not may_eject(len(here), ejected, settings.max_ejected):
            return
        record.times += 1
        record.row = 0
        record.was_out = endpoint.ejected = True
        endpoint.ejections += 1
        for_s = ejection_us(round(settings.ejection_s * 1e6), record.times) / 1e6
        endpoint.record.ejected(self._clock.now_us() + round(for_s * 1e6), reason)
        self._observer(
            EndpointEjected(upstream=self._upstream, endpoint=endpoint.address, reason=reason, for_s=for_s)
        )

        def over() -> None:
            endpoint.ejected = False
            if not endpoint.removed:
                self._observer(EndpointReturned(upstream=self._upstream, endpoint=endpoint.address))
                self._on_change()

        self._clock.call_later(for_s, over)
        self._on_change()

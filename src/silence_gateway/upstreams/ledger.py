"""
The end of every call, written down: counts, durations, and what it says about its endpoint.

`answered` runs for every call that went well, but for plain unary ones (`placed_calls.py`). Nothing here
chooses an endpoint; a breaker that moves because of what is written here is seen to by `breakers.py`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable

from silence_gateway.clock import Clock
from silence_gateway.core.balancing import raised
from silence_gateway.core.breaker import State
from silence_gateway.core.durations import BUCKETS, FINE_S, PUBLISHED
from silence_gateway.core.histogram import BOUNDS_S
from silence_gateway.core.http_status import name_of_status
from silence_gateway.core.status import name_of_code
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamTimeout
from silence_gateway.upstreams.breakers import Breakers
from silence_gateway.upstreams.dialing import Link
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.feedback import Feedback
from silence_gateway.upstreams.outcomes import Evidence, code_of, evidence_of, has_enough
from silence_gateway.upstreams.outliers import Outliers
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.record import MAX_DEPARTURES, Departure, faults_of
from silence_gateway.upstreams.upstream_breaker import UpstreamBreaker


class Ledger:
    """
    Counts for one upstream. *on_last* is called when the last call of an endpoint to be left has ended.

    Attributes:
        codes: Calls of endpoints that are gone, by gRPC code; those of the others are with them.
        statuses: Those of them that ended with an HTTP answer, by its `counted_status`.
        latency_counts: Calls per bucket of BOUNDS_S, and one more for the rest.
        latency_sum_s: Sum of all durations, in seconds.
        begun_us: When counting began, microseconds since the Unix epoch.
        durations: Calls that endpoints which are gone have timed, by bucket of `core.durations`.
        bytes_in: Bytes received from endpoints that are gone.
        bytes_out: Bytes sent to them.
        ejections: How often they were ejected.
        departed: The last of them.
        thinks: Whether a call that went well is more than counted.
        monotonic_s: The clock.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        breakers: Breakers,
        places: Places,
        feedback: Feedback,
        outliers: Outliers,
        on_last: Callable[[Endpoint], None],
        whole: UpstreamBreaker,
        slow_s: float | None = None,
        whole_slow_s: float | None = None,
    ) -> None:
        self.codes = [0] * 17
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.latency_counts = [0] * (len(BOUNDS_S) + 1)
        self.latency_sum_s = 0.0
        self.begun_us = clock.now_us()
        self.durations = [0] * BUCKETS
        self.bytes_in = self.bytes_out = self.ejections = 0
        self.departed: deque[Departure] = deque(maxlen=MAX_DEPARTURES)
        self._now_us = clock.now_us
        self.monotonic_s = clock.monotonic_s
        self._breakers = breakers
        self._places = places
        self._feedback = feedback.on_end if feedback.wanted else None
        self._outliers = outliers
        self._on_last = on_last
        self._slow_s = math.inf if slow_s is None else slow_s
        self._whole = whole if whole.automatic else None
        self._whole_slow_s = math.inf if whole_slow_s is None else whole_slow_s
        self.thinks = not (self._feedback is None and self._whole is None and slow_s is None)

    def answered(
        self,
        endpoint: Endpoint,
        generation: int,
        started_s: float,
        sent_s: float | None = None,
        begun_s: float | None = None,
        *,
        final: bool = True,
    ) -> None:
        """
        Write down a call that ended with OK, begun at *started_s* in the breaker's *generation*.

        *sent_s* is when a unary call got its place at this endpoint. A stream has *begun_s* instead, because
        how long it lasted says nothing about its endpoint. Unless it is *final* the call had another answer.
        """
        now, places = self.monotonic_s, self._places
        now_s = now()
        slow = False
        elapsed_s = now_s - started_s
        bucket = bisect_left(FINE_S, elapsed_s)
        if final:
            self.latency_counts[PUBLISHED[bucket]] += 1
            self.latency_sum_s += elapsed_s
        if sent_s is not None:
            # A call that neither waited nor went elsewhere before, which is most, is looked up once.
            if sent_s != started_s:
                bucket = bisect_left(FINE_S, now_s - sent_s)
            endpoint.durations[bucket] += 1
            slow = now_s - sent_s > self._slow_s
            if self._feedback is not None:
                self._feedback(endpoint, now_s - sent_s, now_s, Evidence.ANSWER)
            endpoint.heard_s = now_s
        endpoint.in_flight -= 1
        endpoint.codes[0] += 1
        breaker = endpoint.breaker
        if slow or not breaker.succeeded(generation, now_s):
            old, now_us = breaker.state, int(now_s * 1e6)
            event = breaker.on_slow(generation, now_us) if slow else breaker.on_success(generation, now_us)
            if event is not None:
                self._breakers.moved(endpoint, old, event)
        if self._whole is not None:
            late = sent_s is not None and now_s - sent_s > self._whole_slow_s
            evidence = Evidence.FAILURE if late else Evidence.ANSWER
            self._on_whole(self._whole, endpoint, sent_s or begun_s or started_s, now_s, evidence)
        if endpoint.leaving:
            self._left(endpoint)
        places.in_flight -= 1
        if places.line.waiting:
            places.line.tell_one()

    def failed(
        self,
        endpoint: Endpoint,
        connection: Link,
        generation: int,
        started_s: float,
        error: BaseException,
        *,
        final: bool,
        sent_s: float | None = None,
        begun_s: float | None = None,
        status: int = 0,
    ) -> None:
        """
        Write down a call that ended with *error*, and take from it what it says about the endpoint.

        Unless it is *final* the call goes on elsewhere: its duration is written down when it ends. *sent_s*
        and *begun_s* are as for `answered`; *status* is the HTTP answer that *error* stands for, if one does.
        """
        now_s = self.monotonic_s()
        endpoint.in_flight -= 1
        endpoint.codes[code_of(error)] += 1
        if status:
            endpoint.statuses[status] += 1
        if final:
            self.timed(now_s - started_s)
        self._judge(endpoint, connection, generation, started_s, sent_s, error, begun_s, status)
        if endpoint.leaving:
            self._left(endpoint)
        self._places.give_back()

    def heard(
        self,
        endpoint: Endpoint,
        connection: Link,
        generation: int,
        started_s: float,
        sent_s: float | None,
        error: BaseException | None = None,
        status: int = 0,
    ) -> None:
        """
        Take from the head of an answer what it says about *endpoint*; the call itself goes on until `ended`.

        *error* is what an answer with *status* that speaks against it stands for. *sent_s* is None where how
        long it took was the caller's own affair; the rest is as for `answered`.
        """
        now_s = self.monotonic_s()
        self.timed(now_s - started_s)
        if error is not None:
            self._judge(endpoint, connection, generation, started_s, sent_s, error, status=status)
            return
        if sent_s is not None:
            endpoint.durations[bisect_left(FINE_S, now_s - sent_s)] += 1
            if self._feedback is not None:
                self._feedback(endpoint, now_s - sent_s, now_s, Evidence.ANSWER)
        endpoint.heard_s = now_s
        old = endpoint.breaker.state
        slow = sent_s is not None and now_s - sent_s > self._slow_s
        on_end = endpoint.breaker.on_slow if slow else endpoint.breaker.on_success
        event = on_end(generation, int(now_s * 1e6))
        if event is not None:
            self._breakers.moved(endpoint, old, event)
        if self._whole is not None:
            late = sent_s is not None and now_s - sent_s > self._whole_slow_s
            evidence = Evidence.FAILURE if late else Evidence.ANSWER
            self._on_whole(self._whole, endpoint, sent_s or started_s, now_s, evidence)

    def ended(self, endpoint: Endpoint, code: int, status: int) -> None:
        """Write down the end of a call whose answer was `heard`: HTTP's *status*, which stands for *code*."""
        endpoint.in_flight -= 1
        endpoint.codes[code] += 1
        endpoint.statuses[status] += 1
        if endpoint.leaving:
            self._left(endpoint)
        self._places.give_back()

    def timed(self, elapsed_s: float) -> None:
        """Write down how long a call took."""
        self.latency_counts[bisect_left(BOUNDS_S, elapsed_s)] += 1
        self.latency_sum_s += elapsed_s

    def inherit(self, endpoint: Endpoint) -> None:
        """Take over the counts of an endpoint that is going, so that totals never go down."""
        self.codes = [mine + its for mine, its in zip(self.codes, endpoint.codes, strict=True)]
        for status, count in endpoint.statuses.items():
            self.statuses[status] += count
        self.durations = [mine + its for mine, its in zip(self.durations, endpoint.durations, strict=True)]
        self.bytes_in += endpoint.bytes_in
        self.bytes_out += endpoint.bytes_out
        self.ejections += endpoint.ejections
        self.departed.append(
            Departure(
                address=endpoint.address,
                left_us=self._now_us(),
                calls=sum(endpoint.codes),
                faults=faults_of(endpoint.codes),
                mishap=endpoint.record.mishap,
            )
        )

    def _judge(
        self,
        endpoint: Endpoint,
        connection: Link,
        generation: int,
        started_s: float,
        sent_s: float | None,
        error: BaseException,
        begun_s: float | None = None,
        status: int = 0,
    ) -> None:
        """Take from *error* what it says about *endpoint*."""
        now_s = self.monotonic_s()
        breaker, old, now_us = endpoint.breaker, endpoint.breaker.state, int(now_s * 1e6)
        evidence = evidence_of(error, breaker.policy.failure_codes, connection_lost=not connection.accepting)
        if sent_s is not None:
            # What was broken off or never left says nothing about how long answers take.
            if isinstance(error, RpcError | UpstreamTimeout):
                endpoint.durations[bisect_left(FINE_S, now_s - sent_s)] += 1
            if self._feedback is not None and not has_enough(error):
                self._feedback(endpoint, now_s - sent_s, now_s, evidence)
            if evidence is not Evidence.SILENCE and evidence is not Evidence.NOTHING:
                endpoint.heard_s = now_s
        event = None
        took_s = 0.0 if sent_s is None else now_s - sent_s
        if evidence is Evidence.ANSWER:
            self._outliers.answered(endpoint)
            if has_enough(error):
                endpoint.penalty = raised(endpoint.penalty)
            on_end = breaker.on_slow if took_s > self._slow_s else breaker.on_success
            event = on_end(generation, now_us)
        elif evidence is Evidence.NOTHING or evidence is Evidence.PUSHBACK:
            if evidence is Evidence.PUSHBACK:
                endpoint.penalty = raised(endpoint.penalty)
            if old is State.HALF_OPEN and generation == breaker.generation:
                breaker.on_nothing(generation)
                self._breakers.nudge_later(endpoint)
                self._places.reconsider()
        else:
            endpoint.penalty = raised(endpoint.penalty)
            told = error if isinstance(error, RpcError) else f"{type(error).__name__}: {error}"
            counted_as = name_of_status(status) if status else name_of_code(code_of(error))
            endpoint.record.went_wrong(str(told), self._now_us(), counted_as)
            self._outliers.failed(endpoint)
            if evidence is Evidence.FAILURE:
                event = breaker.on_failure(generation, now_us)
            else:
                asked_s = started_s if sent_s is None else sent_s
                event = breaker.on_timeout(generation, int(asked_s * 1e6), now_us)
        if isinstance(error, RpcError | UpstreamFault):
            error.endpoint = endpoint.address
        if event is not None:
            self._breakers.moved(endpoint, old, event)
        if self._whole is not None:
            if evidence is Evidence.ANSWER and took_s > self._whole_slow_s:
                evidence = Evidence.FAILURE
            self._on_whole(self._whole, endpoint, sent_s or begun_s or started_s, now_s, evidence)

    def _on_whole(
        self, whole: UpstreamBreaker, endpoint: Endpoint, begun_s: float, now_s: float, evidence: Evidence
    ) -> None:
        """Take from a call's end what it says about the upstream as a whole."""
        old, probing = whole.breaker.state, whole.breaker.probing
        event = whole.on_end(endpoint, begun_s, now_s, evidence)
        if event is not None:
            self._breakers.moved(whole, old, event)
        elif probing and not whole.breaker.probing:
            self._breakers.nudge_later(whole)
            self._places.reconsider()

    def _left(self, endpoint: Endpoint) -> None:
        if not endpoint.in_flight:
            self._on_last(endpoint)

"""
How an HTTP request goes through a pool: a place, an answer's head, and the end of its body.

The same places, ledger, budget and rules as for gRPC calls; what differs is that an answer speaks for its
endpoint with its head, while the body may go on for hours. So the head is judged at once (`Ledger.heard`),
and until the body has ended the call keeps its place as a stream does. A request is made again as long as
no head was passed on, if it may run twice and all of its body is still here.

Runs for every request: no task, and one closure where a body is not there with its head.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple, cast

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.http_status import counted_status
from silence_gateway.core.retry import Over
from silence_gateway.errors import RpcError, UpstreamTimeout
from silence_gateway.upstreams.deadlines import GRAIN_S
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.http_body import HttpAnswer
from silence_gateway.upstreams.http_contracts import HttpAsk
from silence_gateway.upstreams.http_link import HttpLink
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.outcomes import NotConnectedInTime, code_of, said_by_status
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.repeating import Repeats
from silence_gateway.upstreams.steering import Steering
from silence_gateway.upstreams.tried import Tried


class Attempt(NamedTuple):
    """
    One attempt of a call.

    Attributes:
        endpoint: Where it is.
        connection: By which connection.
        generation: Of the endpoint's breaker.
        started_s: When the call began, monotonic seconds.
        sent_s: When the attempt did; None if its body comes in pieces, because then it takes as long as the
            caller does. Such a one counts as a stream of its endpoint, which may rightly be silent.
    """

    endpoint: Endpoint
    connection: Connection
    generation: int
    started_s: float
    sent_s: float | None


class Again(NamedTuple):
    """How a call goes on: whom to avoid, which attempt it is then, and how long to wait."""

    tried: Tried
    begun: int
    pause_s: float


class HttpCalls:
    """Requests over the places of a pool whose connections are `HttpLink`s."""

    def __init__(
        self,
        places: Places,
        ledger: Ledger,
        repeats: Repeats,
        *,
        clock: Clock,
        timeout_s: float,
        attempt_timeout_s: float | None,
    ) -> None:
        self._places = places
        self._ledger = ledger
        self._repeats = repeats
        self._clock = clock
        self._monotonic_s = clock.monotonic_s
        self._timeout_s = timeout_s
        self._attempt_timeout_s = inf if attempt_timeout_s is None else attempt_timeout_s

    async def exchange(
        self, ask: HttpAsk, deadline_s: float | None = None, steering: Steering | None = None
    ) -> HttpAnswer:
        """
        Send *ask* to an endpoint and return its answer as soon as the head is here.

        Args:
            ask: The request.
            deadline_s: Monotonic seconds at which all of it must be over, body included, but for a switched
                socket; None gives the upstream's own timeout to answer and its body as long as it likes. A
                body in pieces may take its time as well: the upstream's begins whenever it has a piece to
                take.
            steering: Where the call belongs.

        Raises:
            UpstreamUnavailable: No endpoint could take it; or, as UpstreamBroken, the connection broke.
            UpstreamTimeout: It took too long.
            UpstreamProtocolError: The answer was not HTTP.
            ClientFault: The caller's body could not be read.

        Cancelling it ends the request at the upstream.
        """
        places = self._places
        started_s = self._monotonic_s()
        limit_s = started_s + self._timeout_s if deadline_s is None else deadline_s
        in_pieces = ask.pieces is not None
        # Its end is the caller's affair, so it may not be anybody's probe, and only a deadline bounds it.
        hard_s = inf if in_pieces and deadline_s is None else limit_s
        probes_until_s = inf if in_pieces else limit_s
        # Who may not be asked again has all the time of the call, and so has who is still sending.
        attempt_timeout_s = self._attempt_timeout_s if ask.can_repeat and not in_pieces else inf
        tried = None if steering is None else Tried(steering)
        begun = 1
        while True:
            sent_s = self._monotonic_s()
            taken = places.take(tried, probes_until_s)
            if taken is None:
                taken = await places.wait(limit_s, tried, may_probe=not in_pieces)
                sent_s = self._monotonic_s()
            endpoint, connection = taken
            # The connector of this pool opens nothing else (`connector.http_connector`).
            link = cast("HttpLink", connection)
            endpoint.in_flight += 1
            endpoint.streaming += in_pieces
            generation = endpoint.breaker.generation
            attempt = Attempt(endpoint, connection, generation, started_s, None if in_pieces else sent_s)
            try:
                answer = await link.exchange(
                    ask, limit_s - started_s, min(hard_s, sent_s + attempt_timeout_s)
                )
            except BaseException as raised:
                error = self._as_meant(raised, limit_s)
                again = self._after_error(ask, attempt, error, tried, begun, limit_s)
                self._failed(attempt, error, final=again is None)
                if again is None:
                    if error is raised:
                        raise
                    raise error from raised
            else:
                said = said_by_status(answer.head)
                again = None if said is None else self._made_again(ask, attempt, said, tried, begun, limit_s)
                if said is None or again is None:
                    self._pass_on(answer, attempt, said, deadline_s)
                    return answer
                answer.close()
                status = counted_status(answer.head.status)
                self._repeats.statuses[status] += 1
                self._failed(attempt, said, final=False, status=status)
            tried = again.tried
            if again.pause_s:
                try:
                    await self._clock.sleep(again.pause_s)
                except BaseException as error:
                    # The attempt before did not end the call, and there will be no other one.
                    places.codes[code_of(error)] += 1
                    raise
            self._repeats.retries += again.begun - begun
            begun = again.begun

    def _as_meant(self, error: BaseException, limit_s: float) -> BaseException:
        """
        Return what *error* says to a call that has until *limit_s*.

        An attempt whose time went by while its endpoint let nobody connect has not left. With time left for
        the call it goes elsewhere, as if the connection had been refused; but what it says about the endpoint
        is that it was silent for so long. Timers may ring a little early.
        """
        left_s = limit_s - self._monotonic_s()
        if isinstance(error, UpstreamTimeout) and not error.sent and left_s > GRAIN_S:
            return NotConnectedInTime(str(error), sent=False)
        return error

    def _failed(self, attempt: Attempt, error: BaseException, *, final: bool, status: int = 0) -> None:
        """Write down an attempt of which nothing is passed on; *status* if it was answered."""
        endpoint, connection, generation, started_s, sent_s = attempt
        endpoint.streaming -= sent_s is None
        self._ledger.failed(
            endpoint, connection, generation, started_s, error, final=final, sent_s=sent_s, status=status
        )

    def _after_error(
        self,
        ask: HttpAsk,
        attempt: Attempt,
        error: BaseException,
        tried: Tried | None,
        begun: int,
        limit_s: float,
    ) -> Again | None:
        """Return how to go on after *attempt* ended in *error*; None if that is the end."""
        elsewhere = self._places.next_try(tried, attempt.endpoint, attempt.connection, error)
        if elsewhere is not None:
            return Again(elsewhere, begun, 0.0)
        return self._made_again(ask, attempt, error, tried, begun, limit_s)

    def _made_again(
        self,
        ask: HttpAsk,
        attempt: Attempt,
        error: BaseException,
        tried: Tried | None,
        begun: int,
        limit_s: float,
    ) -> Again | None:
        """Return how to make the call once more after it may have been seen; None if it is not."""
        if not ask.can_repeat:
            return None
        step = self._repeats.after(error, begun, limit_s)
        if isinstance(step, Over):
            return None
        self._repeats.codes[code_of(error)] += 1
        tried = tried or Tried()
        tried.avoid(attempt.endpoint, attempt.connection)
        return Again(tried, begun + 1, step.after_us / 1e6)

    def _pass_on(
        self, answer: HttpAnswer, attempt: Attempt, said: RpcError | None, deadline_s: float | None
    ) -> None:
        """Write down the head of *answer*, and see to it that its end is written down."""
        endpoint, connection, generation, started_s, sent_s = attempt
        places, ledger = self._places, self._ledger
        status = counted_status(answer.head.status)
        ledger.heard(endpoint, connection, generation, started_s, sent_s, said, status)
        code = 0 if said is None else said.code
        if answer.done:
            endpoint.streaming -= sent_s is None
            ledger.ended(endpoint, code, status)
            return
        endpoint.streaming += sent_s is not None
        places.streaming += 1
        leave_link = answer.on_end
        timer: Timer | None = None

        def on_end(error: BaseException | None) -> None:
            leave_link(error)
            if timer is not None:
                timer.cancel()
            endpoint.streaming -= 1
            places.streaming -= 1
            if error is None:
                ledger.ended(endpoint, code, status)
            else:
                ledger.failed(endpoint, connection, generation, started_s, error, final=False)

        if answer.error is not None:
            on_end(answer.error)
            return
        answer.on_end = on_end
        if deadline_s is not None and answer.switched is None:
            late = UpstreamTimeout("the deadline passed in the middle of an answer")
            timer = self._clock.call_later(
                max(0.0, deadline_s - self._monotonic_s()), lambda: answer.close(late)
            )
        # It counts against no limit any more.
        places.room()

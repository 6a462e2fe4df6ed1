"""
Every request, counted and, when asked for, logged: the outermost layer.

This runs for every request and adds two dictionary look-ups and two bisections. With the access log
off no line and no dictionary is built.
"""

from __future__ import annotations

import asyncio

from silence_gateway.clock import Clock
from silence_gateway.core.histogram import Histogram
from silence_gateway.core.http import Handler, Layer, Request, Response, StreamingResponse
from silence_gateway.core.http_head import Rejected
from silence_gateway.core.http_status import CLIENT_LEFT, counted_status, name_of_status
from silence_gateway.watch.families import Family, Sample, histogram_sample
from silence_gateway.watch.logs import LogFormat, LogWriter, clean, json_line, timestamp

NOT_ROUTED = "none"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestCounters:
    """What a scrape says about requests."""

    def __init__(self) -> None:
        self.total: dict[tuple[str, str, int], int] = {}
        self.duration: dict[str, Histogram] = {}
        self.overhead = Histogram()

    def families(self) -> list[Family]:
        """Return the counts as metric families."""
        return [
            Family(
                "silence_requests_total",
                "counter",
                "Requests answered, by route template, method and HTTP status.",
                tuple(
                    Sample((("route", route), ("method", method), ("status", name_of_status(status))), count)
                    for (route, method, status), count in self.total.items()
                ),
            ),
            Family(
                "silence_request_duration_seconds",
                "histogram",
                "From the last byte of the request to the first of the answer.",
                tuple(
                    histogram_sample(found.counts, found.sum_s, (("route", route),))
                    for route, found in self.duration.items()
                ),
            ),
            Family(
                "silence_overhead_seconds",
                "histogram",
                "The gateway's own share of the duration: without waiting for the upstream.",
                (histogram_sample(self.overhead.counts, self.overhead.sum_s),),
            ),
        ]


class AccessLog:
    """One line per request, as JSON or text."""

    def __init__(self, writer: LogWriter, clock: Clock, form: LogFormat) -> None:
        self._writer = writer
        self._clock = clock
        self._text = form == "text"

    def write(self, request: Request, status: int, duration_s: float, sent: int) -> None:
        """Write the line of one request; *sent* is the size of the body, -1 for a stream."""
        stamp = timestamp(self._clock.now_us())
        if self._text:
            self._writer.line(
                f"{stamp} {request.client_ip or '-'} {request.method} {clean(request.target)} {status} "
                f"{duration_s * 1000:.1f}ms {request.request_id}"
            )
            return
        fields: dict[str, object] = {
            "time": stamp,
            "level": "info",
            "event": "request",
            "request_id": request.request_id,
            "client_ip": request.client_ip,
            "method": request.method,
            "path": request.path,
            "route": request.route or NOT_ROUTED,
            "status": status,
            "duration_ms": round(duration_s * 1000, 3),
            "upstream_ms": round(request.upstream_s * 1000, 3),
            # Of a body that is still coming, what has come.
            "received_bytes": len(request.body) if request.incoming is None else request.incoming.received,
        }
        if sent >= 0:
            fields["sent_bytes"] = sent
        if request.rpc:
            fields["rpc"] = request.rpc
        if request.user:
            fields["user"] = request.user
        if request.api_key:
            fields["api_key"] = request.api_key
        agent = request.headers.get(b"user-agent")
        if agent:
            fields["user_agent"] = agent[:200].decode("latin-1")
        self._writer.line(json_line(fields))

    def refused(self, peer: str, request: Request | None, error: Rejected) -> None:
        """Write the line of what was answered before it was a whole request; None: not even a head."""
        stamp = timestamp(self._clock.now_us())
        method, target = (request.method, request.target) if request is not None else ("-", "-")
        if self._text:
            self._writer.line(f"{stamp} {peer or '-'} {method} {clean(target)} {error.status} {error.reason}")
            return
        fields: dict[str, object] = {
            "time": stamp,
            "level": "info",
            "event": "request",
            "client_ip": peer,
            "method": method,
            "path": target.partition("?")[0],
            "route": NOT_ROUTED,
            "status": error.status,
            "refused": error.reason,
            "detail": str(error),
        }
        self._writer.line(json_line(fields))


def watch_requests(counters: RequestCounters, log: AccessLog | None, clock: Clock) -> Layer:
    """Count every answer, and write its line when there is a *log*."""
    total = counters.total
    durations = counters.duration
    overhead = counters.overhead
    monotonic_s = clock.monotonic_s

    def layer(inner: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                response = await inner(request)
            except asyncio.CancelledError:
                # The client left before its answer: nginx's 499, as everybody's dashboards know it.
                key = (request.route or NOT_ROUTED, _known(request.method), CLIENT_LEFT)
                total[key] = total.get(key, 0) + 1
                if log is not None:
                    log.write(request, CLIENT_LEFT, monotonic_s() - request.received_s, 0)
                raise
            duration_s = monotonic_s() - request.received_s
            route = request.route or NOT_ROUTED
            key = (route, _known(request.method), counted_status(response.status))
            total[key] = total.get(key, 0) + 1
            found = durations.get(route)
            if found is None:
                found = durations[route] = Histogram()
            found.add(duration_s)
            overhead.add(duration_s - request.upstream_s)
            if log is not None:
                sent = -1 if isinstance(response, StreamingResponse) else len(response.body)
                log.write(request, response.status, duration_s, sent)
            return response

        return handle

    return layer


def _known(method: str) -> str:
    return method if method in METHODS else "OTHER"

"""Calls that are made more than once: times that do not go together, and keys that change nothing."""

from __future__ import annotations

from collections.abc import Iterator

from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import quoted, show_duration
from silence_gateway.app.config.upstream_retry import RetryConfig


def check_retry(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find upstreams whose calls would not be made again as somebody meant it."""
    for name, upstream in config.upstreams.items():
        at: Steps = ("upstreams", name, "retry")
        retry = upstream.retry
        if "max_wait_s" in retry.model_fields_set and retry.max_wait_s < retry.wait_s:
            yield Finding(
                at=(*at, "max_wait"),
                says=(
                    f"no wait is longer than {show_duration(retry.max_wait_s)} with this, but wait is "
                    f"{show_duration(retry.wait_s)}: make wait the smaller one"
                ),
                about=((*at, "wait"), (*at, "max_wait")),
            )
        if upstream.protocol != "grpc":
            continue
        yield from check_effect(at, retry)
        routes = [
            route.timeout_s
            for route in config.routes
            if route.timeout_s is not None and route.upstream in {None, name}
        ]
        if not retry.streams:
            # Streams take as long as their caller has.
            yield from check_times(at, retry, max(upstream.timeout_s, *routes, 0.0))


def check_effect(at: Steps, retry: RetryConfig) -> Iterator[Finding]:
    """Find keys that are not looked at."""
    if retry.attempts == 1 and retry.hedge_after is not None:
        yield Finding(
            at=(*at, "hedge_after"),
            says="with attempts: 1 no call is made twice, so nothing is hedged: raise attempts, or remove it",
            about=((*at, "attempts"),),
            warning=True,
        )
    if retry.streams and retry.attempt_timeout_s is None and retry.hedge_after is None:
        yield Finding(
            at=(*at, "streams"),
            says="this is about attempt_timeout and hedge_after, and neither is there: add one, or remove it",
            about=((*at, "attempt_timeout"), (*at, "hedge_after")),
            warning=True,
        )


def check_times(at: Steps, retry: RetryConfig, longest_s: float) -> Iterator[Finding]:
    """Find times that no call reaches; without a deadline of their caller calls take *longest_s* at most."""
    after = retry.hedge_after
    times = {
        "attempt_timeout": retry.attempt_timeout_s,
        "hedge_after": None if after is None else after.seconds,
    }
    for key, seconds in times.items():
        if seconds is not None and seconds >= longest_s:
            yield Finding(
                at=(*at, key),
                says=(
                    f"a whole call may take {show_duration(longest_s)}, so {quoted(show_duration(seconds))} "
                    "changes nothing: make it smaller"
                ),
                about=((*at[:-1], "timeout"), ("routes",)),
                warning=True,
            )

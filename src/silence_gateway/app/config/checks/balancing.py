"""Balancing, breakers, and what holds calls back: keys that need each other, or have no effect."""

from __future__ import annotations

from collections.abc import Iterator

from silence_gateway.app.config.balancing import BalancingConfig
from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.quantities import quoted, show_duration
from silence_gateway.app.config.upstreams import UpstreamConfig

MIN_EVEN_SUBSET = 10
"""With fewer endpoints each, chance gives some endpoints twice the instances of others."""

READ_BY = {"key": "consistent_hash", "max_load": "consistent_hash", "decay_s": "peak_ewma"}


def check_balancing(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find upstreams whose calls would not be spread as somebody meant it."""
    for name, upstream in config.upstreams.items():
        at: Steps = ("upstreams", name)
        yield from check_rule(at, upstream)
        yield from check_key(at, upstream, config)
        yield from check_zones(at, upstream, config.zone)
        yield from check_bounds(at, upstream)
        times = [route.timeout_s for route in config.routes if route.upstream in {None, name}]
        yield from check_breakers(
            at, upstream, max(upstream.timeout_s, *(time or 0.0 for time in times), 0.0)
        )
    for index, route in enumerate(config.routes):
        sheds = [
            name
            for name, upstream in config.upstreams.items()
            if upstream.shedding is not None and route.upstream in {None, name}
        ]
        if route.importance is not None and not sheds:
            yield Finding(
                at=("routes", index, "importance"),
                says="no upstream sheds load, so this changes nothing: give one `shedding`, or remove it",
                about=(("upstreams",),),
                warning=True,
            )


def check_rule(at: Steps, upstream: UpstreamConfig) -> Iterator[Finding]:
    """Find keys that the chosen balancer does not read."""
    balancing = upstream.balancing
    for field, reader in READ_BY.items():
        changed = getattr(balancing, field) != BalancingConfig.model_fields[field].default
        if changed and upstream.balancer != reader:
            key = field.removesuffix("_s")
            yield Finding(
                at=(*at, "balancing", key),
                says=f"only balancer: {reader} reads {key}; this one is {upstream.balancer}: remove it",
                about=((*at, "balancer"),),
            )
    if balancing.slow_start_s and upstream.balancer == "consistent_hash":
        yield Finding(
            at=(*at, "balancing", "slow_start"),
            says="consistent_hash knows no slow start, because keys would move twice: remove it",
            about=((*at, "balancer"),),
        )
    if upstream.balancer == "consistent_hash" and balancing.key is None:
        yield Finding(
            at=(*at, "balancer"),
            says="consistent_hash needs balancing.key, which says whose a request is",
            about=((*at, "balancing", "key"), (*at, "balancer")),
        )


def check_key(at: Steps, upstream: UpstreamConfig, config: GatewayConfig) -> Iterator[Finding]:
    """Find a key that no request will have."""
    key = upstream.balancing.key or ""
    needs = ""
    if (key.startswith("claim:") and (config.auth is None or config.auth.jwt is None)) or (
        key == "api_key" and (config.auth is None or config.auth.api_keys is None)
    ):
        needs = "auth.jwt" if key.startswith("claim:") else "auth.api_keys"
    elif key == "user" and config.auth is None:
        needs = "auth"
    if needs:
        yield Finding(
            at=(*at, "balancing", "key"),
            says=f"{quoted(key)} needs {needs}, which says how callers are verified",
            about=(("auth",),),
        )


def check_zones(at: Steps, upstream: UpstreamConfig, here: str | None) -> Iterator[Finding]:
    """Find zones that do not decide anything."""
    zones = {endpoint.zone for endpoint in upstream.endpoints}
    named = sorted(zone for zone in zones if zone)
    if named and here is None:
        yield Finding(
            at=(*at, "endpoints"),
            says="endpoints have zones but this instance has none, so they do not matter: set zone",
            about=(("zone",),),
            warning=True,
        )
    elif named and here not in named:
        yield Finding(
            at=("zone",),
            says=(
                f"no endpoint of {quoted(str(at[1]))} is in zone {quoted(str(here))}; "
                f"they are in {', '.join(named)}"
            ),
            about=((*at, "endpoints"),),
            warning=True,
        )
    elif named and None in zones:
        yield Finding(
            at=(*at, "endpoints"),
            says="some endpoints have a zone and some have none; those count as a zone of their own",
            warning=True,
        )


def check_bounds(at: Steps, upstream: UpstreamConfig) -> Iterator[Finding]:
    """Find numbers that do not go together."""
    concurrency, shedding, subset = upstream.concurrency, upstream.shedding, upstream.balancing.subset
    if concurrency is not None and concurrency.min > concurrency.max:
        yield Finding(
            at=(*at, "concurrency"),
            says=f"min is the lowest limit and max the highest, not {concurrency.min} and {concurrency.max}",
            about=tuple((*at, "concurrency", key) for key in ("min", "max")),
        )
    elif concurrency is not None and not concurrency.min <= concurrency.begins_at <= concurrency.max:
        yield Finding(
            at=(*at, "concurrency"),
            says=(
                f"min, initial and max must be in this order, not {concurrency.min}, {concurrency.initial} "
                f"and {concurrency.max}"
            ),
            about=tuple((*at, "concurrency", key) for key in ("min", "initial", "max")),
        )
    if shedding is not None and shedding.target_s >= shedding.interval_s:
        yield Finding(
            at=(*at, "shedding"),
            says=(
                f"target is the shorter time, but it is {show_duration(shedding.target_s)} and interval is "
                f"{show_duration(shedding.interval_s)}"
            ),
            about=((*at, "shedding", "target"), (*at, "shedding", "interval")),
        )
    if 0 < subset < MIN_EVEN_SUBSET:
        yield Finding(
            at=(*at, "balancing", "subset"),
            says=f"subsets of fewer than {MIN_EVEN_SUBSET} load endpoints unevenly: 20 or more is better",
            warning=True,
        )


def check_breakers(at: Steps, upstream: UpstreamConfig, longest_s: float) -> Iterator[Finding]:
    """Find breakers that never open; without a deadline of their caller calls take *longest_s* at most."""
    whole, endpoints = upstream.upstream_breaker, upstream.endpoints
    if whole is not None and len(endpoints) == 1 and endpoints[0].address is not None:
        yield Finding(
            at=(*at, "upstream_breaker"),
            says=(
                "the worst endpoint is left out here, and there is only one, so this never opens: its own "
                "breaker is all there is"
            ),
            about=((*at, "endpoints"),),
            warning=True,
        )
    slow = {
        "breaker": upstream.breaker.slow_call_s,
        "upstream_breaker": None if whole is None else whole.slow_call_s,
    }
    for section, slow_s in slow.items():
        if slow_s is not None and slow_s >= longest_s:
            yield Finding(
                at=(*at, section, "slow_call"),
                says=(
                    f"no call takes longer than {show_duration(longest_s)}, so "
                    f"{quoted(show_duration(slow_s))} changes nothing: make it smaller"
                ),
                about=((*at, "timeout"), ("routes",)),
                warning=True,
            )

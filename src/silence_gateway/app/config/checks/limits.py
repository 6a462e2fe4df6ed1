"""Limits that contradict themselves, or cost more than they look."""

from __future__ import annotations

from collections.abc import Iterator

from silence_gateway.app.config.checks.finding import Context, Finding, Steps
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.limits import LimitConfig
from silence_gateway.app.config.quantities import quoted
from silence_gateway.core.limits import Algorithm, Alignment, LimitRule
from silence_gateway.limiting.cost import ONE

# A sliding window remembers every use: 10,000 of them take about 200 KB of store per key.
LARGE_WINDOW = 10_000


def check_limits(config: GatewayConfig, _context: Context) -> Iterator[Finding]:
    """Find everything about limits that the file alone can show."""
    names: dict[str, int] = {}
    for index, limit in enumerate(config.limits):
        at: Steps = ("limits", index)
        if limit.name in names:
            yield Finding(
                at=(*at, "name"),
                says=f"another limit has the name {quoted(limit.name)} already: names are unique",
                about=(("limits", names[limit.name], "name"),),
            )
        names.setdefault(limit.name, index)
        yield from check_match(at, limit)
        yield from check_size(at, limit)
        if not limit.key:
            yield Finding(
                at=(*at, "key"),
                says="the list is empty: write client_ip, or const for one counter for all",
                about=((*at, "key"),),
            )
        for place, part in enumerate(limit.key):
            if part in limit.key[:place]:
                yield Finding(at=(*at, "key", place), says=f"{quoted(part)} is in the key twice: remove one")
            missing = missing_for(part, config)
            if missing:
                yield Finding(at=(*at, "key", place), says=missing, about=(("auth",),), warning=True)


def missing_for(part: str, config: GatewayConfig) -> str:
    """Return why no request has what a part of a key counts by, or nothing."""
    auth = config.auth
    if part == "user" and auth is None:
        return "no `auth` is configured, so no caller has a user: configure it, or use client_ip"
    if part == "api_key" and (auth is None or auth.api_keys is None):
        return "no `auth.api_keys` is configured, so no caller has a key: configure it, or use client_ip"
    if part.startswith("claim:") and (auth is None or auth.jwt is None):
        return "no `auth.jwt` is configured, so no caller has claims: all requests count together"
    return ""


def check_match(at: Steps, limit: LimitConfig) -> Iterator[Finding]:
    """Find a match that says nothing, or two things."""
    match = limit.match
    ways = [key for key, on in (("path", match.path), ("rpc", match.rpc), ("any", match.any)) if on]
    steps: Steps = (*at, "match")
    about = tuple((*steps, key) for key in ("path", "rpc", "any"))
    if not ways:
        yield Finding(at=steps, says="say what the limit counts: one of path, rpc or any: true", about=about)
    elif len(ways) > 1:
        yield Finding(
            at=steps,
            says=f"{' and '.join(ways)} do not go together: keep one, or make two limits",
            about=about,
        )
    elif match.methods and match.rpc:
        yield Finding(at=(*steps, "methods"), says="methods belong to path; an rpc has none")


def check_size(at: Steps, limit: LimitConfig) -> Iterator[Finding]:
    """Find a limit that can never be met, or not be counted."""
    keys = ("rate", "burst", "max", "ttl", "cost", "reserve", "algorithm", "align", "block_for", "lease")
    about: tuple[Steps, ...] = tuple((*at, key) for key in keys)
    if limit.algorithm == "concurrency":
        if limit.max is None:
            yield Finding(
                at=at, says="concurrency needs max: how many requests may run at once per key", about=about
            )
            return
        if limit.cost != ONE:
            yield Finding(
                at=(*at, "cost"),
                says="a request takes one place of a concurrency limit: remove cost",
                about=about,
            )
    elif limit.rate is None:
        hint = ", or write algorithm: concurrency" if limit.max is not None else ", such as rate: 100/minute"
        yield Finding(at=at, says=f"the limit needs a rate{hint}", about=about)
        return
    try:
        rule = LimitRule(
            name=limit.name,
            algorithm=Algorithm(limit.algorithm),
            rate=limit.rate,
            burst=limit.burst,
            max=limit.max,
            align=Alignment(limit.align),
            block_us=round(limit.block_for_s * 1_000_000),
            lease=limit.lease or 0,
        )
    except ValueError as exc:
        says = str(exc).removeprefix(f"limit {limit.name}: ")
        yield Finding(at=(*at, culprit(limit)), says=says, about=about)
        return
    capacity = rule.capacity
    told = limit.reserve if limit.cost.answer_header else limit.cost.amount
    if told > capacity and not limit.cost.header:
        yield Finding(
            at=(*at, "reserve" if limit.cost.answer_header else "cost"),
            says=f"a cost of {told} never fits in {capacity}: every request would be refused",
            about=about,
        )
    if limit.algorithm == "sliding_window" and capacity > LARGE_WINDOW:
        yield Finding(
            at=(*at, "rate"),
            says=(
                f"sliding_window keeps every one of the {capacity} uses in the store, for each key: "
                "consider algorithm: sliding_counter or token_bucket"
            ),
            about=about,
            warning=True,
        )


def culprit(limit: LimitConfig) -> str:
    """Return the key that a limit whose numbers do not go together most likely has too much."""
    algorithm = limit.algorithm
    for key, value, homes in (
        ("burst", limit.burst, {"token_bucket"}),
        ("max", limit.max, {"concurrency"}),
        ("align", limit.align if limit.align != "calendar" else None, {"fixed_window"}),
    ):
        if value is not None and algorithm not in homes:
            return key
    if algorithm == "concurrency":
        return "rate" if limit.rate is not None else "block_for" if limit.block_for_s else "lease"
    return "lease" if limit.lease else "rate"

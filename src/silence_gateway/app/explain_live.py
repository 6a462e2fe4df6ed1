"""
What a running gateway would decide about a request, and what each of its limits has left for it now.

The same decisions as `silence explain`, by the routes, lists and counters of this moment. Nothing is called
and nothing is spent.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import asdict

from silence_gateway.admin.contracts import Ask, AskHandler
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.matching import METHODS
from silence_gateway.app.explain import Live, explain_request, read_header, why_met
from silence_gateway.app.gateway import Gateway
from silence_gateway.core.http import Request
from silence_gateway.core.limits import Decision
from silence_gateway.errors import BadRequest
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.limiting.override_entry import Override


def explaining(gateway: Gateway, limiter: Limiter, config: GatewayConfig) -> AskHandler:
    """Return what answers `limits/explain?method=&path=&ip=&header=`."""

    async def answer(ask: Ask) -> object:
        request = request_of(ask.query)
        live = Live(gateway.routes.now, gateway.access.verdict) if gateway.routes is not None else None
        steps = await explain_request(config, gateway.services, request, live=live)
        # Whoever is refused before, or let past, meets none.
        meets = not request.unlimited and any(step.what == "limit" for step in steps)
        matched = limiter.match(request.method, request.path, request.rpc, request.aliases) if meets else None
        specs = [] if matched is None else matched.specs
        return {
            "steps": [asdict(step) for step in steps if step.what != "limit"],
            # All at once, so that they are one trip to the store.
            "limits": await asyncio.gather(*(limit_of(limiter, spec, request) for spec in specs)),
        }

    return answer


async def limit_of(limiter: Limiter, spec: LimitSpec, request: Request) -> dict[str, object]:
    """Return one limit that a request meets; a key that may be a secret is shown as statistics show it."""
    name, key = spec.rule.name, spec.key_of(request)
    decision = await limiter.state(name, key)
    known = limiter.decider.overrides
    override = known.find(name, key) if known is not None else None
    cost, outcome = outcome_of(spec, override, request, decision)
    for_ever = override is not None and override.blocked and not override.until_us
    return {
        "name": name,
        "rate": spec.rule.size,
        "by": list(spec.key),
        "key": limiter.statistics[name].shown(key),
        "hidden": spec.hides_keys,
        "limit": decision.limit,
        "remaining": decision.remaining,
        "reset_s": None if for_ever else decision.reset_us / 1_000_000,
        "cost": cost,
        "outcome": outcome,
        "mode": spec.rule.mode.value,
        "why": why_met(spec),
    }


def outcome_of(
    spec: LimitSpec, override: Override | None, request: Request, decision: Decision
) -> tuple[int | None, str]:
    """Return what a request would spend, and in words what one limit would make of it."""
    rule = spec.rule
    try:
        cost = spec.cost.of_request(request)
    except BadRequest as exc:
        return None, f"answers 400: {exc}"
    if override is not None and override.unlimited:
        return cost, "passes: its key is unlimited"
    if override is not None and override.blocked:
        said = f"refuses: its key is blocked {'for a time' if override.until_us else 'for ever'}"
    elif cost > decision.limit:
        said = f"refuses: costs {cost}, the whole limit is {decision.limit}"
    elif cost > decision.remaining:
        said = f"refuses: costs {cost}, {decision.remaining} left"
    else:
        return cost, "passes"
    return cost, said.replace("refuses", "would refuse, in shadow", 1) if rule.shadow else said


def request_of(query: Mapping[str, str]) -> Request:
    """
    Return the request that is asked about.

    Raises:
        BadRequest: The query does not say one.
    """
    method, target = query.get("method", "GET").upper(), query.get("path", "")
    if method not in METHODS:
        raise BadRequest(f"method is one of {', '.join(METHODS)}, not {method[:20]!r}")
    if not target.startswith("/"):
        raise BadRequest(f"path begins with '/', which {target[:60]!r} does not")
    ip = query.get("ip", "") or "127.0.0.1"
    try:
        ipaddress.ip_address(ip)
    except ValueError as exc:
        raise BadRequest(f"ip: {ip[:60]!r} is not an address") from exc
    headers = {b"host": b"localhost"}
    for line in query.get("header", "").splitlines():
        try:
            name, value = read_header(line)
        except ValueError as exc:
            raise BadRequest(f"header: {exc}") from exc
        headers[name] = value
    return Request(method, target, headers, peer=ip)

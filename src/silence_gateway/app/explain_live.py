"""
What a running gateway would decide about a request, and what each of its limits has left for it now.

The same decisions as `silence explain`, by the routes, lists and counters of this moment. Nothing is called
and nothing is spent.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import inf
from typing import Any

from silence_gateway.admin.contracts import Ask, AskHandler
from silence_gateway.admin.limit_verdicts import meeting, retry_words, told, waiting
from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.matching import METHODS
from silence_gateway.app.explain import Live, Step, explain_request, read_header, why_met
from silence_gateway.app.gateway import Gateway
from silence_gateway.core.http import Request
from silence_gateway.core.limits import Mode
from silence_gateway.errors import BadRequest
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter

BEFORE_LIMITS = (401, 403)
"""What is decided before limits are asked."""


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
        # All at once, so that they are one trip to the store.
        limits = await asyncio.gather(*(limit_of(limiter, spec, request) for spec in specs))
        return {
            **together(request, steps, limits),
            "steps": [asdict(step) for step in steps if step.what != "limit"],
            "limits": limits,
        }

    return answer


async def limit_of(limiter: Limiter, spec: LimitSpec, request: Request) -> dict[str, Any]:
    """Return one limit that a request meets; a key that may be a secret is shown as statistics show it."""
    name, key = spec.rule.name, spec.key_of(request)
    said: dict[str, Any] = {
        "name": name,
        "by": list(spec.key),
        "key": limiter.statistics[name].shown(key),
        "hidden": spec.hides_keys,
        "why": why_met(spec),
    }
    try:
        cost = spec.cost.of_request(request)
    except BadRequest as exc:
        met = told(await meeting(limiter, name, key, 0))
        return said | met | {"cost": None, "allowed": False, "outcome": f"answers 400: {exc}"}
    verb = "reserves" if spec.cost.answer_header else "costs"
    return said | told(await meeting(limiter, name, key, cost, verb))


def together(request: Request, steps: Sequence[Step], limits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return what becomes of *request*, by everything that is decided about it.

    What the gateway answers by itself comes first where it is decided before the limits (403, 401), last
    where it is decided behind them (404, 405).
    """
    refusing = [limit for limit in limits if not limit["allowed"] and limit["mode"] != Mode.SHADOW]
    unreadable = [limit for limit in limits if limit["cost"] is None]
    ends = sorted(
        (step for step in steps if step.status is not None), key=lambda step: step.status not in BEFORE_LIMITS
    )
    said: dict[str, Any] = {"allowed": False, "status": None, "refused_by": [], **waiting(0, 0)}
    if ends and ends[0].status in BEFORE_LIMITS:
        said |= {"status": ends[0].status}
        text = f"answered {words_of(ends[0])}"
    elif unreadable:
        said |= {"status": 400}
        text = f"answered 400 bad request: {unreadable[0]['outcome'].partition(': ')[2]}"
    elif refusing:
        names = [limit["name"] for limit in refusing]
        # One that never lets it pass waits longest.
        last = max(
            refusing, key=lambda limit: inf if limit["retry_after_s"] is None else limit["retry_after_s"]
        )
        wait = {name: last[name] for name in ("retry_after_s", "retry_at_us")}
        said |= {"status": 429, "refused_by": names, **wait}
        text = f"refused by {', '.join(names)}; {retry_words(**wait)}"
    elif ends:
        said |= {"status": ends[0].status}
        text = f"{allowed_words(request, limits)}; then answered {words_of(ends[0])}"
    else:
        said |= {"allowed": True}
        text = allowed_words(request, limits)
    return {"verdict": text, **said}


def words_of(step: Step) -> str:
    """Return a step that ends a request, in words."""
    decided = step.decided.removeprefix("nobody: ")
    return decided if decided.startswith(str(step.status)) else f"{step.status}: {step.why}"


def allowed_words(request: Request, limits: Sequence[Mapping[str, Any]]) -> str:
    """Return that limits let a request pass, and who would refuse it if they were not in shadow."""
    if request.unlimited:
        return "allowed: its address is on access.allow, so no limit applies"
    if not limits:
        return "allowed: no limit counts it"
    shadows = [limit["name"] for limit in limits if not limit["allowed"]]
    return "allowed by its limits" + (
        f" ({', '.join(shadows)} would refuse it, in shadow)" if shadows else ""
    )


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

"""
The admin API's answers about limits: what they are, and how they are used.

Nothing here decides or counts anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from silence_gateway.admin.contracts import Ask, whole
from silence_gateway.admin.local import LocalInstance
from silence_gateway.errors import BadRequest
from silence_gateway.limiting.fleet_counts import FleetCounts
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.stores.limit_stats_contract import (
    MAX_TOP,
    SLOT_S,
    By,
    LimitUse,
    Tops,
    WindowName,
    WindowUse,
)

DEFAULT_TOP = 20
WINDOWS: Mapping[str, WindowName] = {name: name for name in SLOT_S}
BY: Mapping[str, By] = {"requests": "requests", "denied": "refused"}


def serve_limits(instance: LocalInstance, limiter: Limiter, counts: FleetCounts) -> None:
    """Serve what the limits are and how they are used; single keys are served by `limit_keys.py`."""

    async def listing(_ask: Ask) -> object:
        uses, of_fleet = await counts.read({("1h", "requests"): DEFAULT_TOP})
        return [row_of(spec, uses[name], of_fleet=of_fleet) for name, spec in limiter.specs.items()]

    async def top(ask: Ask) -> object:
        name = ask.query.get("name", "")
        if not name:
            raise BadRequest("say of which limit: ?name=")
        limiter.spec(name)
        window: WindowName = choice(WINDOWS, "window", ask.query.get("window", "") or "1h")
        by: By = choice(BY, "by", word := ask.query.get("by", "") or "requests")
        wanted = whole(ask.query.get("limit", ""), DEFAULT_TOP)
        if not 1 <= wanted <= MAX_TOP:
            raise BadRequest(f"limit is 1 to {MAX_TOP}: no more keys are kept")
        uses, of_fleet = await counts.read({(window, by): wanted}, [name])
        use = uses[name].windows[window]
        return {
            "name": name,
            "window": window,
            "by": word,
            "counted_by": counted_by(of_fleet=of_fleet),
            "unique_clients": use.unique_clients,
            "top": listed(use.requests if by == "requests" else use.refused, word),
        }

    async def one(ask: Ask) -> object:
        name = ask.captured["name"]
        spec = limiter.spec(name)
        tops: Tops = {(window, by): DEFAULT_TOP for window in SLOT_S for by in BY.values()}
        uses, of_fleet = await counts.read(tops, [name])
        windows = {window: window_of(use) for window, use in uses[name].windows.items()}
        return row_of(spec, uses[name], of_fleet=of_fleet) | {"windows": windows}

    async def reset_one(ask: Ask) -> object:
        name = ask.captured["name"]
        limiter.spec(name)
        await counts.reset([name])
        return {"reset": [name]}

    async def reset_all(_ask: Ask) -> object:
        await counts.reset()
        return {"reset": list(limiter.specs)}

    instance.serve("GET", "limits", listing)
    instance.serve("GET", "limits/top", top)
    instance.serve("GET", "limits/{name}", one)
    instance.serve("DELETE", "limits/stats", reset_all)
    instance.serve("DELETE", "limits/{name}/stats", reset_one)


def described(spec: LimitSpec) -> dict[str, Any]:
    """Return what a limit is."""
    rule = spec.rule
    return {
        "name": rule.name,
        "rate": None if rule.rate is None else str(rule.rate),
        "max": rule.max,
        "algorithm": rule.algorithm.value,
        "burst": rule.burst,
        "cost": str(spec.cost),
        "block_s": rule.block_us / 1_000_000,
        "lease": rule.lease,
        "key": list(spec.key),
        "match": {"path": spec.path, "methods": list(spec.methods), "rpc": spec.rpc, "any": spec.any},
        "mode": rule.mode.value,
        "when_down": rule.when_down.value,
    }


def row_of(spec: LimitSpec, use: LimitUse, *, of_fleet: bool) -> dict[str, Any]:
    """Return what a limit is and how it is used."""
    return described(spec) | {
        "counted_by": counted_by(of_fleet=of_fleet),
        "since_us": use.since_us,
        **use.counts._asdict(),
        "unique_clients": {window: each.unique_clients for window, each in use.windows.items()},
        "top": listed(use.windows["1h"].requests, "requests"),
    }


def window_of(use: WindowUse) -> dict[str, Any]:
    """Return how a limit was used in one window."""
    return {
        **use.counts._asdict(),
        "unique_clients": use.unique_clients,
        "top": listed(use.requests, "requests"),
        "top_denied": listed(use.refused, "denied"),
    }


def listed(counted: Mapping[str, int], word: str) -> list[dict[str, object]]:
    """Return keys and their counts as a list, which keeps its order in every language."""
    return [{"key": key, word: count} for key, count in counted.items()]


def counted_by(*, of_fleet: bool) -> str:
    """Say whose counts they are."""
    return "fleet" if of_fleet else "this instance"


def choice(known: Mapping[str, Any], name: str, text: str) -> Any:
    """
    Return what *text* stands for.

    Raises:
        BadRequest: It is none of *known*.
    """
    if text not in known:
        raise BadRequest(f"{name} is {' or '.join(known)}, not {text[:40]!r}")
    return known[text]

"""
The admin API's answers, made from what each engine tells about itself.

Each function registers one engine's paths on a `LocalInstance`. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from urllib.parse import unquote

from silence_gateway.admin.contracts import Ask, whole
from silence_gateway.admin.local import LocalInstance
from silence_gateway.errors import BadRequest, NotFound
from silence_gateway.limiting.fleet_counts import FleetCounts
from silence_gateway.limiting.limit_key import join_key
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.upstreams.pool import GrpcUpstream

DEFAULT_PAGE = 100


def serve_upstreams(instance: LocalInstance, upstreams: Mapping[str, GrpcUpstream]) -> None:
    """Serve `upstreams` and the state of their endpoints."""

    async def everything(_ask: Ask) -> object:
        return [asdict(upstream.statistics) for upstream in upstreams.values()]

    async def change(ask: Ask) -> object:
        name, address = ask.captured["name"], ask.captured["address"]
        state = ask.query.get("state", "")
        upstream = upstreams.get(name)
        if upstream is None:
            raise NotFound(f"there is no upstream {name!r}; there are {', '.join(upstreams) or 'none'}")
        actions: dict[str, Callable[[str], None]] = {
            "drain": upstream.drain_endpoint,
            "active": upstream.activate_endpoint,
        }
        if state not in actions:
            raise BadRequest('say {"state": "drain"} or {"state": "active"}, in the body or as ?state=')
        try:
            actions[state](address)
        except KeyError:
            raise NotFound(f"upstream {name!r} has no endpoint {address!r}") from None
        return {"upstream": name, "endpoint": address, "state": state}

    instance.serve("GET", "upstreams", everything)
    instance.serve("PUT", "upstreams/{name}/endpoints/{address}", change)


def serve_limits(instance: LocalInstance, limiter: Limiter, counts: FleetCounts) -> None:
    """Serve the limits, what the fleet has counted, and single keys."""

    async def listing(_ask: Ask) -> object:
        counted, of_fleet = await counts.read()
        return [
            {
                "name": name,
                "rate": str(spec.rule.rate),
                "algorithm": spec.rule.algorithm.value,
                "burst": spec.rule.burst,
                "key": list(spec.key),
                "match": {"path": spec.path, "methods": list(spec.methods), "rpc": spec.rpc, "any": spec.any},
                "mode": spec.rule.mode.value,
                "when_down": spec.rule.when_down.value,
                "counted_by": "fleet" if of_fleet else "this instance",
                "allowed": counted[name].allowed,
                "denied": counted[name].denied,
                "shadow_denied": counted[name].shadow_denied,
                "top": [{"key": key, "requests": count} for key, count in counted[name].top.items()],
            }
            for name, spec in limiter.specs.items()
        ]

    async def top(ask: Ask) -> object:
        name = ask.query.get("name", "")
        limiter.spec(name)
        counted, of_fleet = await counts.read()
        return {
            "name": name,
            "counted_by": "fleet" if of_fleet else "this instance",
            "top": [{"key": key, "requests": count} for key, count in counted[name].top.items()],
        }

    def place(ask: Ask) -> tuple[str, str]:
        name, key = ask.captured["name"], ask.captured["key"]
        if len(limiter.spec(name).key) > 1:
            # Several parts: each is encoded for itself, so that a comma in one is none between two.
            key = join_key([unquote(part) for part in ask.path.rpartition("/")[2].split(",")])
        return name, key

    async def state(ask: Ask) -> object:
        name, key = place(ask)
        decision = await limiter.state(name, key)
        return {"name": name, "key": key, "limit": decision.limit, "remaining": decision.remaining}

    async def reset(ask: Ask) -> object:
        name, key = place(ask)
        return {"name": name, "key": key, "reset": await limiter.reset(name, key)}

    instance.serve("GET", "limits", listing)
    instance.serve("GET", "limits/top", top)
    instance.serve("GET", "limits/{name}/keys/{key}", state)
    instance.serve("DELETE", "limits/{name}/keys/{key}", reset)


def serve_sessions(instance: LocalInstance, hub: RealtimeHub) -> None:
    """Serve the WebSocket sessions of the fleet."""

    async def listing(ask: Ask) -> object:
        page = await hub.directory.sessions(
            user=ask.query.get("user", ""),
            channel=ask.query.get("channel", ""),
            limit=whole(ask.query.get("limit", ""), DEFAULT_PAGE),
            cursor=ask.query.get("cursor", ""),
        )
        return {"sessions": [asdict(record) for record in page.sessions], "cursor": page.cursor}

    async def one(ask: Ask) -> object:
        record = await hub.directory.session(ask.captured["id"])
        if record is None:
            raise NotFound(f"there is no session {ask.captured['id']!r}")
        return asdict(record)

    async def disconnect(ask: Ask) -> object:
        if not await hub.directory.disconnect(ask.captured["id"]):
            raise NotFound(f"there is no session {ask.captured['id']!r}")
        return {"disconnected": ask.captured["id"]}

    instance.serve("GET", "sessions", listing)
    instance.serve("GET", "sessions/{id}", one)
    instance.serve("DELETE", "sessions/{id}", disconnect)

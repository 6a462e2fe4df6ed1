"""
The admin API's answers, made from what each engine tells about itself.

Each function registers one engine's paths on a `LocalInstance`. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from silence_gateway.admin.access_lists import ReadDuration, check_known, ttl_of
from silence_gateway.admin.contracts import Ask, whole
from silence_gateway.admin.local import LocalInstance
from silence_gateway.admin.upstreams import serve_statistics
from silence_gateway.core.breaker import State
from silence_gateway.errors import BadRequest, NotFound
from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.upstreams.pool import GrpcUpstream

DEFAULT_PAGE = 100


DEFAULT_HOLD_S = 3600.0
"""How long a breaker is held if nobody says: one held open and forgotten is an outage in waiting."""

BREAKERS = {"open": State.HELD_OPEN, "closed": State.HELD_CLOSED, "auto": State.CLOSED}


def serve_upstreams(
    instance: LocalInstance, upstreams: Mapping[str, GrpcUpstream], read_duration: ReadDuration
) -> None:
    """Serve `upstreams` and the state of their endpoints; *read_duration* reads `ttl` as seconds."""
    serve_statistics(instance, upstreams)

    async def change(ask: Ask) -> object:
        name, address = ask.captured["name"], ask.captured["address"]
        state = ask.query.get("state", "")
        upstream = upstreams.get(name)
        if upstream is None:
            raise NotFound(f"there is no upstream {name!r}; there are {', '.join(upstreams) or 'none'}")
        if "breaker" in ask.query and "state" not in ask.query:
            return hold(upstream, name, address, ask.query)
        if state not in {"drain", "active"} or "breaker" in ask.query:
            raise BadRequest(
                'say {"state": "drain"}, {"state": "active"} or {"breaker": ...}, in the body or as ?state='
            )
        try:
            told = await upstream.drain_everywhere(address, drained=state == "drain")
        except KeyError:
            raise NotFound(f"upstream {name!r} has no endpoint {address!r}") from None
        # Without a store the decision is this instance's alone, and whoever made it should know.
        return {"upstream": name, "endpoint": address, "state": state, "fleet": told}

    def hold(upstream: GrpcUpstream, name: str, address: str, asked: Mapping[str, str]) -> object:
        check_known(asked, {"breaker", "reason", "ttl"})
        word, reason = asked["breaker"], asked.get("reason", "")
        ttl_s = ttl_of(asked, read_duration)
        if word not in BREAKERS:
            raise BadRequest('say {"breaker": "open"}, "closed" or "auto"')
        try:
            upstream.hold_breaker(address, BREAKERS[word], reason, DEFAULT_HOLD_S if ttl_s is None else ttl_s)
        except KeyError:
            raise NotFound(f"upstream {name!r} has no endpoint {address!r}") from None
        except ValueError as exc:
            raise BadRequest(str(exc)) from exc
        return {"upstream": name, "endpoint": address, "breaker": word, "reason": reason}

    instance.serve("PUT", "upstreams/{name}/endpoints/{address}", change)


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

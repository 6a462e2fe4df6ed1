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
from silence_gateway.upstreams.guarded import WHOLE
from silence_gateway.upstreams.operators import LEAST_HOLD_S, MOST_HOLD_S
from silence_gateway.upstreams.pool import Pool

DEFAULT_PAGE = 100
SHOWN_ENDPOINTS = 8

DEFAULT_HOLD_S = 3600.0
"""How long a breaker is held if nobody says: one held open and forgotten is an outage in waiting."""

BREAKERS = {"open": State.HELD_OPEN, "closed": State.HELD_CLOSED, "auto": State.CLOSED}


def serve_upstreams(
    instance: LocalInstance, upstreams: Mapping[str, Pool], read_duration: ReadDuration
) -> None:
    """Serve `upstreams`, and what may be said about them; *read_duration* reads `ttl` as seconds."""
    serve_statistics(instance, upstreams)

    def named(name: str) -> Pool:
        upstream = upstreams.get(name)
        if upstream is None:
            raise NotFound(f"there is no upstream {name!r}; there are {', '.join(upstreams) or 'none'}")
        return upstream

    async def change(ask: Ask) -> object:
        name, address = ask.captured["name"], ask.captured["address"]
        state = ask.query.get("state", "")
        upstream = named(name)
        if "breaker" in ask.query and "state" not in ask.query:
            return await hold(upstream, name, address, ask)
        if state not in {"drain", "active"} or "breaker" in ask.query:
            raise BadRequest(
                'say {"state": "drain"}, {"state": "active"} or {"breaker": ...}, in the body or as ?state='
            )
        # A drain has no end: who sends a ttl means something else.
        check_known(ask.query, {"state", "reason"})
        reason = ask.query.get("reason", "")
        operators = upstream.operators
        try:
            told = await operators.drain(address, drained=state == "drain", who=ask.caller, reason=reason)
        except KeyError:
            raise no_endpoint(upstream, name, address) from None
        except ValueError as exc:
            raise BadRequest(str(exc)) from exc
        said = {"upstream": name, "endpoint": address, "state": state, "reason": reason}
        # Without a store the decision is this instance's alone, and whoever made it should know.
        return {**said, "fleet": told.fleet, "warning": told.warning}

    async def hold(upstream: Pool, name: str, address: str, ask: Ask) -> object:
        asked = ask.query
        check_known(asked, {"breaker", "reason", "ttl"})
        word, reason = asked["breaker"], asked.get("reason", "")
        ttl_s = ttl_of(asked, read_duration)
        if word not in BREAKERS:
            raise BadRequest('say {"breaker": "open"}, "closed" or "auto"')
        if word != "auto" and ttl_s is not None and not LEAST_HOLD_S <= ttl_s <= MOST_HOLD_S:
            raise BadRequest(f"ttl: a breaker is held for 1s to 30d, not for {asked['ttl'][:20]!r}")
        try:
            told = await upstream.operators.hold(
                address, BREAKERS[word], reason, DEFAULT_HOLD_S if ttl_s is None else ttl_s, who=ask.caller
            )
        except KeyError:
            raise no_endpoint(upstream, name, address) from None
        except ValueError as exc:
            raise BadRequest(str(exc)) from exc
        said = {"upstream": name, "endpoint": address, "breaker": word, "reason": reason}
        return {**said, "until_us": told.until_us, "fleet": told.fleet, "warning": told.warning}

    async def hold_whole(ask: Ask) -> object:
        name = ask.captured["name"]
        upstream = named(name)
        if "breaker" not in ask.query:
            raise BadRequest('say {"breaker": "open"}, "closed" or "auto"')
        return await hold(upstream, name, WHOLE, ask)

    instance.serve("PUT", "upstreams/{name}", hold_whole)
    instance.serve("PUT", "upstreams/{name}/endpoints/{address}", change)


def no_endpoint(upstream: Pool, name: str, address: str) -> NotFound:
    """Return what to raise where nobody knows *address*: which endpoints there are, as far as they fit."""
    there = [endpoint.address for endpoint in upstream.statistics.endpoints]
    listed = ", ".join(there[:SHOWN_ENDPOINTS]) or "none"
    more = f" and {len(there) - SHOWN_ENDPOINTS} more" if len(there) > SHOWN_ENDPOINTS else ""
    return NotFound(f"upstream {name!r} has no endpoint {address!r}; there are {listed}{more}")


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

"""
The admin API's answers, made from what each engine tells about itself.

Each function registers one engine's paths on a `LocalInstance`. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from silence_gateway.admin.contracts import Ask, whole
from silence_gateway.admin.local import LocalInstance
from silence_gateway.errors import BadRequest, NotFound, StoreFault, StoreUnavailable
from silence_gateway.limiting.access import AccessLists
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


def serve_access(instance: LocalInstance, lists: AccessLists, read_duration: Callable[[str], float]) -> None:
    """Serve the run-time lists; *read_duration* reads `ttl` as seconds, or raises ValueError."""
    for name in ("allow", "deny"):
        instance.serve("GET", f"access/{name}", _listing(lists, name))
        instance.serve("PUT", f"access/{name}/{{cidr*}}", _adding(lists, name, read_duration))
        instance.serve("DELETE", f"access/{name}/{{cidr*}}", _removing(lists, name))


def _listing(lists: AccessLists, name: str) -> Callable[[Ask], Any]:
    async def answer(_ask: Ask) -> object:
        return [asdict(entry) for entry in lists.list(name)]

    return answer


def _adding(lists: AccessLists, name: str, read_duration: Callable[[str], float]) -> Callable[[Ask], Any]:
    async def answer(ask: Ask) -> object:
        unknown = ask.query.keys() - {"ttl", "reason"}
        if unknown:
            # A misspelt ttl would make a ban of an hour one for ever.
            raise BadRequest(
                f"{', '.join(sorted(unknown))[:100]} is not known here; there are ttl and reason"
            )
        ttl = ask.query.get("ttl", "")
        try:
            ttl_s = read_duration(ttl) if ttl else None
        except ValueError as exc:
            raise BadRequest(f"ttl: {exc}") from exc
        cidr, reason = ask.captured["cidr"], ask.query.get("reason", "")
        try:
            return asdict(await lists.add(name, cidr, ttl_s=ttl_s, reason=reason, by="admin API"))
        except StoreFault as exc:
            raise _here_only(f"{cidr} is on the {name} list of this instance", exc) from exc

    return answer


def _removing(lists: AccessLists, name: str) -> Callable[[Ask], Any]:
    async def answer(ask: Ask) -> object:
        cidr = ask.captured["cidr"]
        try:
            removed = await lists.remove(name, cidr, by="admin API")
        except StoreFault as exc:
            raise _here_only(f"{cidr} is off the {name} list of this instance", exc) from exc
        if not removed:
            raise NotFound(f"{cidr} is not on the {name} list")
        return {"removed": cidr}

    return answer


def _here_only(done: str, exc: StoreFault) -> StoreUnavailable:
    return StoreUnavailable(f"{done}; the fleet learns of it when the store is back ({exc})")


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

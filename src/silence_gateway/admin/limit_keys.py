"""
The admin API's answers about single keys of limits: what they have left, and what holds for them.

Nothing here decides or counts anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from silence_gateway.admin.contracts import Ask, whole
from silence_gateway.admin.limit_verdicts import described, meeting, told, verdict_of
from silence_gateway.admin.local import LocalInstance
from silence_gateway.errors import BadRequest, NotFound, StoreFault, StoreUnavailable
from silence_gateway.limiting.cost import MAX_COST
from silence_gateway.limiting.limit_key import as_counted, join_key
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter

ReadDuration = Callable[[str], float]
FLAGS: Mapping[str, bool] = {"true": True, "false": False}


def serve_keys(instance: LocalInstance, limiter: Limiter, read_duration: ReadDuration) -> None:
    """Serve single keys of limits; *read_duration* reads `ttl` as seconds, or raises ValueError."""

    def place(ask: Ask) -> tuple[str, str]:
        name, key = ask.captured["name"], ask.captured["key"]
        spec = limiter.spec(name)
        if len(spec.key) == 1:
            return name, counted(name, spec, [key])[0]
        # Several parts: each is encoded for itself, so that a comma in one is none between two.
        written = ask.path.partition("/keys/")[2].partition("/")[0]
        values = [unquote(part, errors="surrogatepass") for part in written.split(",")]
        return name, join_key(counted(name, spec, values))

    async def state(ask: Ask) -> object:
        name, key = place(ask)
        cost = whole(ask.query.get("cost", ""), 1)
        if not 1 <= cost <= MAX_COST:
            raise BadRequest(f"limit {name}: a cost is 1 to {MAX_COST}, not {cost}")
        if cost > 1 and limiter.spec(name).rule.kind == "c":
            raise BadRequest(f"limit {name}: it gives places, and a request takes one: a cost of 1")
        met = await meeting(limiter, name, key, cost)
        return {"name": name, "key": key, "verdict": verdict_of(met), **told(met)}

    async def reset(ask: Ask) -> object:
        name, key = place(ask)
        return {"name": name, "key": key, "reset": await limiter.reset(name, key)}

    async def grant(ask: Ask) -> object:
        name, key = place(ask)
        given_back = await limiter.grant(name, key, whole(ask.query.get("uses", ""), 1))
        said = {"name": name, "key": key, "given_back": given_back}
        if limiter.spec(name).rule.block_us:
            # What is given back ends no block, which is a penalty and no use.
            said["remaining"] = (await limiter.state(name, key)).remaining
        return said

    async def put(ask: Ask) -> object:
        name, key = place(ask)
        try:
            override = await limiter.put_override(name, key, said_of(ask.query, read_duration), ask.caller)
        except StoreFault as exc:
            raise here_only("holds", exc) from exc
        return {"name": name, "key": key, "override": described(override)}

    async def remove(ask: Ask) -> object:
        name, key = place(ask)
        try:
            removed = await limiter.remove_override(name, key, ask.caller)
        except StoreFault as exc:
            raise here_only("is gone", exc) from exc
        if not removed:
            raise NotFound(f"limit {name}: nothing special holds for this key")
        return {"name": name, "key": key, "removed": True}

    async def overrides(ask: Ask) -> object:
        name = ask.captured["name"]
        limiter.spec(name)
        return [{"key": each.shown, **described(each)} for each in limiter.overrides.listed(name)]

    instance.serve("GET", "limits/{name}/overrides", overrides)
    instance.serve("GET", "limits/{name}/keys/{key}", state)
    instance.serve("PUT", "limits/{name}/keys/{key}", put)
    instance.serve("DELETE", "limits/{name}/keys/{key}", reset)
    instance.serve("POST", "limits/{name}/keys/{key}/grant", grant)
    instance.serve("DELETE", "limits/{name}/keys/{key}/override", remove)


def counted(name: str, spec: LimitSpec, values: Sequence[str]) -> list[str]:
    """
    Return the values of a key as requests are counted.

    Raises:
        BadRequest: There are more or fewer than the key has parts, or one is none that is ever counted.
    """
    if len(values) != len(spec.key):
        raise BadRequest(f"limit {name} counts by {', '.join(spec.key)}: write one value for each")
    try:
        return [
            as_counted(part, value, spec.ipv6_prefix) for part, value in zip(spec.key, values, strict=True)
        ]
    except ValueError as exc:
        raise BadRequest(f"limit {name}: {exc}") from exc


def said_of(query: Mapping[str, str], read_duration: ReadDuration) -> dict[str, Any]:
    """
    Return what a call says about a key, each value in its form; what is not known here stays a text.

    Raises:
        BadRequest: A value cannot be read.
    """
    said: dict[str, Any] = dict(query)
    for name in ("burst", "max"):
        if name in query:
            if not query[name].isascii() or not query[name].isdigit() or len(query[name]) > 10:
                raise BadRequest(f"{name} is a whole number, not {query[name][:40]!r}")
            said[name] = int(query[name])
    for name in ("unlimited", "blocked"):
        if name in query:
            if query[name] not in FLAGS:
                raise BadRequest(f"{name} is true or false, not {query[name][:40]!r}")
            said[name] = FLAGS[query[name]]
    if "ttl" in query:
        try:
            said["ttl"] = read_duration(query["ttl"])
        except ValueError as exc:
            raise BadRequest(f"ttl: {exc}") from exc
    return said


def here_only(what: str, exc: StoreFault) -> StoreUnavailable:
    """Say that a change has not reached the fleet."""
    return StoreUnavailable(
        f"the exception {what} at this instance; the fleet learns of it when the store is back ({exc})"
    )

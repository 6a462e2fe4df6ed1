"""
The admin API's answers about the allow and deny lists.

Nothing here decides anything: it reads what was asked and says what the lists answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from silence_gateway.admin.contracts import Ask, AskHandler, whole
from silence_gateway.admin.local import LocalInstance
from silence_gateway.errors import BadRequest, NotFound, StoreUnavailable
from silence_gateway.limiting.access import MAX_PAGE, AccessLists
from silence_gateway.limiting.access_entry import LISTS, AccessEntry, WantedEntry

ReadDuration = Callable[[str], float]
KEYS_OF_ENTRY = frozenset({"cidr", "ttl", "reason"})
SHAPE = 'a list of entries, such as [{"cidr": "203.0.113.0/24", "ttl": "1h", "reason": "scraping"}]'


def serve_access(instance: LocalInstance, lists: AccessLists, read_duration: ReadDuration) -> None:
    """Serve the lists; *read_duration* reads `ttl` as seconds, or raises ValueError."""
    for name in LISTS:
        instance.serve("GET", f"access/{name}", listing(lists, name))
        instance.serve("PUT", f"access/{name}", adding_many(lists, name, read_duration), takes_list=True)
        instance.serve("PUT", f"access/{name}/{{cidr*}}", adding(lists, name, read_duration))
        instance.serve("DELETE", f"access/{name}/{{cidr*}}", removing(lists, name))


def listing(lists: AccessLists, name: str) -> AskHandler:
    """Return what lists entries."""

    async def answer(ask: Ask) -> object:
        check_known(ask.query, {"limit", "after", "ip"})
        found = lists.list(
            name,
            limit=whole(ask.query.get("limit", ""), MAX_PAGE),
            after=ask.query.get("after", ""),
            ip=ask.query.get("ip", ""),
        )
        return [shown(entry) for entry in found]

    return answer


def adding(lists: AccessLists, name: str, read_duration: ReadDuration) -> AskHandler:
    """Return what adds one network."""

    async def answer(ask: Ask) -> object:
        # A misspelt ttl would make a ban of an hour one for ever.
        check_known(ask.query, {"ttl", "reason"})
        cidr = ask.captured["cidr"]
        try:
            entry = await lists.add(
                name,
                cidr,
                ttl_s=ttl_of(ask.query, read_duration),
                reason=ask.query.get("reason", ""),
                by=ask.caller,
            )
        except StoreUnavailable as exc:
            raise here_only(f"{cidr} is on the {name} list of this instance", exc) from exc
        return shown(entry)

    return answer


def adding_many(lists: AccessLists, name: str, read_duration: ReadDuration) -> AskHandler:
    """Return what adds every network of a body, or none."""

    async def answer(ask: Ask) -> object:
        check_known(ask.query, frozenset())
        if ask.items is None:
            raise BadRequest(f"send {SHAPE}, or one network as access/{name}/CIDR")
        wanted = [wanted_entry(number, item, read_duration) for number, item in enumerate(ask.items, 1)]
        try:
            return {"added": await lists.add_many(name, wanted, by=ask.caller)}
        except StoreUnavailable as exc:
            raise here_only(f"all {len(wanted)} are on the {name} list of this instance", exc) from exc

    return answer


def removing(lists: AccessLists, name: str) -> AskHandler:
    """Return what removes one network."""

    async def answer(ask: Ask) -> object:
        cidr = ask.captured["cidr"]
        try:
            removed = await lists.remove(name, cidr, by=ask.caller)
        except StoreUnavailable as exc:
            raise here_only(f"{cidr} is off the {name} list of this instance", exc) from exc
        if not removed:
            raise NotFound(f"{cidr} is not on the {name} list")
        return {"removed": cidr}

    return answer


def check_known(given: Mapping[str, Any], known: frozenset[str] | set[str]) -> None:
    """
    Refuse parameters that nobody reads.

    Raises:
        BadRequest: There are some.
    """
    unknown = given.keys() - known
    if unknown:
        there = f"there are {' and '.join(sorted(known))}" if known else "there are none"
        raise BadRequest(f"{', '.join(sorted(unknown))[:100]} is not known here; {there}")


def wanted_entry(number: int, item: object, read_duration: ReadDuration) -> WantedEntry:
    """
    Read one entry of a body.

    Raises:
        BadRequest: It has another shape.
    """
    if not isinstance(item, dict) or not all(isinstance(value, str) for value in item.values()):
        raise BadRequest(f"entry {number}: write {SHAPE}")
    try:
        check_known(item, KEYS_OF_ENTRY)
        return WantedEntry(
            cidr=item.get("cidr", ""), ttl_s=ttl_of(item, read_duration), reason=item.get("reason", "")
        )
    except BadRequest as exc:
        raise BadRequest(f"entry {number}: {exc}") from None


def ttl_of(given: Mapping[str, str], read_duration: ReadDuration) -> float | None:
    """
    Read `ttl` in seconds; None where it is not given.

    Raises:
        BadRequest: It is no duration.
    """
    text = given.get("ttl", "")
    try:
        return read_duration(text) if text else None
    except ValueError as exc:
        raise BadRequest(f"ttl: {exc}") from exc


def shown(entry: AccessEntry) -> dict[str, object]:
    """Return an entry for JSON; ten times as fast as `asdict`, and there may be ten thousand."""
    return {
        "network": entry.network,
        "origin": entry.origin,
        "reason": entry.reason,
        "by": entry.by,
        "added_us": entry.added_us,
        "until_us": entry.until_us,
    }


def here_only(done: str, exc: StoreUnavailable) -> StoreUnavailable:
    """Say that a change holds at this instance only, for now."""
    return StoreUnavailable(f"{done}; the fleet learns of it when the store is back ({exc})")

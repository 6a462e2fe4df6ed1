"""
What instances tell each other about clients: disconnect them, take them out of a channel.

One bus channel that every instance hears, JSON both ways, at most once: whoever must know whether it
worked looks at the session afterwards. Unknown operations and fields are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable
from dataclasses import asdict, dataclass

from silence_gateway.stores.contracts import Bus

CHANNEL = "rt1:control"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    Something to be done with some clients.

    Attributes:
        op: `disconnect` or `unsubscribe`.
        user: Clients of this user, or any if empty and *client* is given.
        client: This client, or all of *user* if empty.
        channel: What to leave; only for `unsubscribe`.
        code: Close code, or unsubscribe code.
        reason: In words.
        spare: Clients that are left alone.
    """

    op: str
    user: str = ""
    client: str = ""
    channel: str = ""
    code: int = 0
    reason: str = ""
    spare: tuple[str, ...] = ()


def publish_order(bus: Bus, order: Order) -> Awaitable[None]:
    """
    Tell every instance, this one included.

    Raises:
        StoreUnavailable: Nobody was told.
    """
    return bus.publish(CHANNEL, json.dumps(asdict(order), separators=(",", ":")).encode())


def read_order(payload: bytes) -> Order | None:
    """Return the order in *payload*, or None if a newer instance speaks of what we do not know."""
    try:
        fields = json.loads(payload)
        return Order(
            op=str(fields["op"]),
            user=str(fields.get("user", "")),
            client=str(fields.get("client", "")),
            channel=str(fields.get("channel", "")),
            code=int(fields.get("code", 0)),
            reason=str(fields.get("reason", "")),
            spare=tuple(map(str, fields.get("spare", ()))),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None

"""What the demo tells a person: what to try at the start, what happens meanwhile, a summary at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from silence_gateway.events import (
    BreakerMoved,
    EndpointDown,
    EndpointUp,
    Event,
    Noticed,
    StoreFound,
    StoreLost,
)

WELCOME = """
Silence Gateway is serving.

  gateway   http://127.0.0.1:{port}        (in front of three replicas of a sample cafe, by gRPC)
  admin     http://127.0.0.1:{admin_port}        (/readyz?verbose, /metrics, /api/v1/limits ...)
  store     {store}

Try, in another terminal:

  curl http://127.0.0.1:{port}/v1/drinks/latte
  curl 'http://127.0.0.1:{port}/v1/drinks?tags=hot&max_price_cents=300'
  curl --json '{{"drink":"latte","size":"LARGE","quantity":2}}' http://127.0.0.1:{port}/v1/orders
  curl -N -H 'Accept: application/x-ndjson' http://127.0.0.1:{port}/v1/orders/latte-L2:watch
  for i in $(seq 12); do
    curl -s -o /dev/null -w '%{{http_code}} ' --json '{{"drink":"tea"}}' http://127.0.0.1:{port}/v1/orders
  done
  curl -H 'X-API-Key: demo' --json '{{"channel":"news","data":"hello"}}' http://127.0.0.1:{port}/api/publish
  {silence} upstreams --admin http://127.0.0.1:{admin_port}   # the replicas; with -w it stays

  WebSocket clients of the Centrifuge protocol connect to ws://127.0.0.1:{port}/connection/websocket
"""

KEYS = """Keys: k stops and starts the store, u stops and starts a replica, q ends the demo.
"""
PIPE = """Send k (store), u (replica) or q (end) on standard input, or end it with Ctrl-C.
"""


@dataclass
class Report:
    """
    Turns events into sentences, and counts what the summary needs.

    Attributes:
        say: Where sentences go.
    """

    say: Callable[[str], None]
    store_outages: int = 0
    endpoint_losses: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, event: Event, /) -> None:
        """Tell a person about *event*, if it is worth a line."""
        match event:
            case StoreLost():
                self.store_outages += 1
                self.say("the store is away: limits go on by this instance's share, no request fails for it")
            case StoreFound(down_s=down_s):
                self.say(f"the store is back after {down_s:.1f} s: limits are shared again")
            case EndpointDown(endpoint=endpoint, reason=reason):
                self.endpoint_losses += 1
                self.say(f"replica {endpoint} is out ({reason}): its calls go to the others")
            case EndpointUp(endpoint=endpoint):
                self.say(f"replica {endpoint} takes calls again")
            case BreakerMoved(endpoint=endpoint, new=new):
                self.say(f"the breaker of {endpoint} is {new.replace('_', ' ')}")
            case Noticed(what=what, loudness=loudness) if loudness in {"warning", "error"}:
                self.say(f"{loudness}: {what}")

    def summary(self, statuses: Counter[int], orders_lost: int, duration_s: float) -> str:
        """
        Return what there is to say at the end.

        Args:
            statuses: How often each HTTP status was answered; 0 stands for no answer.
            orders_lost: How many of them are orders that a replica had when it was killed.
            duration_s: How long the demo ran.
        """
        total = sum(statuses.values())
        failed = statuses[0] + sum(count for status, count in statuses.items() if status >= 500) - orders_lost
        lines = [
            "",
            f"{total} requests of the demo's own in {duration_s:.0f} s:",
            f"  {sum(count for status, count in statuses.items() if 200 <= status < 300)} answered",
            f"  {statuses[429]} over the limit (429), as they should be",
            f"  {failed} failed",
            *lost(orders_lost),
            f"The store was lost {times(self.store_outages)}, a replica {times(self.endpoint_losses)}.",
        ]
        return "\n".join(lines)


def lost(orders: int) -> list[str]:
    """Return what there is to say about *orders* that went down with a replica, if there were any."""
    if not orders:
        return []
    what = "order was" if orders == 1 else "orders were"
    return [f"  {orders} {what} lost with a killed replica: it may have placed it, so it was not sent again"]


def times(count: int) -> str:
    """Return *count* in words where English has them."""
    return {0: "not once", 1: "once", 2: "twice"}.get(count, f"{count} times")

"""What a hub counts: plain integers, written on the event loop, read when somebody asks."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from silence_gateway.core import centrifuge_codes as codes

# A peer may close with any number; what is not one of these is counted under 0.
KNOWN_CLOSES = frozenset(
    {*range(1000, 1016), *(each.code for each in vars(codes).values() if isinstance(each, codes.CloseCode))}
)


@dataclass(slots=True)
class RealtimeStatistics:
    """
    Since the start, except for the first four, which are the present state.

    Attributes:
        sockets: Open sockets, those not let in yet and those on their way out included.
        connected: Sessions.
        channels: Channels with a local subscriber, or just without one.
        subscriptions: Local subscriptions.
        opened: Sockets that were opened.
        commands: Commands that clients sent.
        errors: Commands that were answered with an error.
        publications: Publications accepted here, of clients and of the server API.
        received: Publications that came from the bus.
        deliveries: Publications written to a client.
        closes: Ended sockets by close code; 0 for codes that mean nothing to us.
        slow_closes: Clients closed because they read too slowly.
        refused_origins: Handshakes refused for their Origin.
        refused_keys: Server API requests with a wrong key or none.
        gaps: Times a channel may have missed publications.
        store_failures: Times the session store did not take what was written.
        resyncs: Times everything was written to the session store again.
        swept: Sessions of killed instances that were removed here.
        dropped: Join and leave messages that could not be published.
    """

    sockets: int = 0
    connected: int = 0
    channels: int = 0
    subscriptions: int = 0
    opened: int = 0
    commands: int = 0
    errors: int = 0
    publications: int = 0
    received: int = 0
    deliveries: int = 0
    closes: dict[int, int] = field(default_factory=dict)
    slow_closes: int = 0
    refused_origins: int = 0
    refused_keys: int = 0
    gaps: int = 0
    store_failures: int = 0
    resyncs: int = 0
    swept: int = 0
    dropped: int = 0

    def count_close(self, code: int) -> None:
        """Count the end of a socket."""
        code = code if code in KNOWN_CLOSES else 0
        self.closes[code] = self.closes.get(code, 0) + 1

    @property
    def by_state(self) -> dict[str, int]:
        """Sessions by state: `connected`, and `connecting` for open sockets that are not (any more)."""
        return {"connecting": self.sockets - self.connected, "connected": self.connected}

    def as_dict(self) -> dict[str, object]:
        """Return everything by name, for the admin API."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

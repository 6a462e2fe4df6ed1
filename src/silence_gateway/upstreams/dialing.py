"""
What the pool asks of whoever opens connections.

The pool knows connections by these shapes only, so that its decisions are tested without a socket. What
opens real ones is `connector.py`, for gRPC and for HTTP. Endpoints and places are the same for both: they
look at the `Link` in a connection, and whoever makes a call knows which kind its upstream has.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, runtime_checkable

from silence_gateway.upstreams.contracts import Caller


class Traffic(Protocol):
    """What a connection has carried."""

    @property
    def bytes_in(self) -> int:
        """Bytes received since it was made."""

    @property
    def bytes_out(self) -> int:
        """Bytes sent since it was made."""


class Link(Protocol):
    """What carries calls to one endpoint, as the pool sees it."""

    @property
    def statistics(self) -> Traffic:
        """What it has carried."""

    @property
    def open_streams(self) -> int:
        """Calls in flight on it; read for every call, so it costs nothing."""

    @property
    def max_streams(self) -> int:
        """Calls it takes at once."""

    @property
    def accepting(self) -> bool:
        """Whether it takes new calls: False once the endpoint said goodbye or it broke."""

    @property
    def sockets(self) -> int:
        """Sockets that it has open."""

    async def close(self, *, graceful: bool = True) -> None:
        """End it: with *graceful* once the calls in flight are over, else at once, failing them."""


class Connection(Link, Caller, Protocol):
    """One open gRPC connection."""


@runtime_checkable
class OfSockets(Protocol):
    """A link that opens further sockets, and closes them, by itself."""

    opened: int
    """Sockets opened so far."""


def opened_by(link: Link) -> int:
    """Return how many sockets *link* has opened so far."""
    return link.opened if isinstance(link, OfSockets) else 1


@runtime_checkable
class Listening(Protocol):
    """A connection that notices when a peer that owes answers has gone quiet."""

    def watch_silence(self, tell: Callable[[bool], None]) -> None:
        """Call *tell* with True when that begins, and with False when it ends or the connection does."""


class Connector(Protocol):
    """Opens connections to one kind of endpoint."""

    def __call__(
        self,
        address: str,
        *,
        on_lost: Callable[[str], None],
        on_capacity: Callable[[], None],
    ) -> Awaitable[Connection]:
        """
        Open a connection to *address*, within a time of the connector's own choice.

        *on_lost* is called once, with the reason (empty when the endpoint said an orderly goodbye), as soon
        as the connection takes no new calls; never for one that we closed. *on_capacity* is called when
        there is room for calls where there was none.

        Raises:
            UpstreamFault: It cannot be reached, or is not what it should be.
            OSError: Likewise.
            ValueError: The address or the server name cannot be used.
        """


def why_not(error: OSError) -> str:
    """Return why a connection could not be opened, for a person to read."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return "what answers there does not speak TLS"
    return str(error)

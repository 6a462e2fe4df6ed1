"""
What the pool asks of whoever opens connections.

The pool knows connections by these two shapes only, so that its decisions are tested without a socket.
What opens real ones is `grpc_connector` in `connector.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from silence_gateway.upstreams.contracts import Caller


class Traffic(Protocol):
    """What a connection has carried."""

    @property
    def bytes_in(self) -> int:
        """Bytes received since it was made."""

    @property
    def bytes_out(self) -> int:
        """Bytes sent since it was made."""


class Connection(Caller, Protocol):
    """One open connection, as the pool sees it."""

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

    async def close(self, *, graceful: bool = True) -> None:
        """End it: with *graceful* once the calls in flight are over, else at once, failing them."""


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

"""How long a connection that is closed here waits for its peer to go along."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.testing import FakeClock
from silence_gateway.upstreams.connection import ConnectionSettings, GrpcConnection


class Deaf(asyncio.Transport):
    """To a peer that never goes along: only `abort` closes it."""

    def __init__(self, unread: int) -> None:
        super().__init__()
        self.unread = unread
        self.closing = self.aborted = False

    def write(self, data: Any) -> None:
        """Take *data*."""

    def get_write_buffer_size(self) -> int:
        return self.unread

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(
    ("unread", "waits_s"), [(0, 0.05), (1, 0.5)], ids=["to end TLS", "to read our last bytes"]
)
def test_a_peer_is_given_a_moment(unread: int, waits_s: float) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        connection = GrpcConnection("here", b"here", b"http", ConnectionSettings(), clock)
        transport = Deaf(unread)
        connection.connection_made(transport)

        connection.abort()
        await clock.advance(waits_s - 0.01)
        assert transport.closing
        assert not transport.aborted
        await clock.advance(0.02)
        assert transport.aborted

    asyncio.run(scenario())

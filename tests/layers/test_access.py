"""Allow and deny lists on requests."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.core.http import Request, Response
from silence_gateway.errors import AccessDenied
from silence_gateway.layers.access import check_access
from silence_gateway.limiting.access import AccessLists
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.testing.clock import FakeClock


async def answer(_request: Request) -> Response:
    return Response(200)


def test_denied_callers_are_refused_allowed_ones_freed_and_others_pass() -> None:
    lists = AccessLists(MemoryStore().board, FakeClock(), allow=["10.0.0.0/8"], deny=["10.6.6.6"])
    handle = check_access(lists)(answer)
    free, plain, banned = (Request("GET", "/", {}, peer=ip) for ip in ("10.0.0.1", "192.0.2.1", "10.6.6.6"))

    async def scenario() -> None:
        await handle(free)
        await handle(plain)
        with pytest.raises(AccessDenied):
            await handle(banned)

    asyncio.run(scenario())

    assert (free.unlimited, plain.unlimited, banned.unlimited) == (True, False, False)
    assert (lists.allowed, lists.denied) == (1, 1)

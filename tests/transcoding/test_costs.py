"""A limit reads from a gRPC answer what it has cost, wherever the upstream says it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
from protobuf import Registry

from silence_gateway.core.http import Request, Response, StreamingResponse
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import RpcError, UpstreamUnavailable
from silence_gateway.layers.limit import limit_rate
from silence_gateway.limiting.cost import Cost
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore
from silence_gateway.testing.limiters import local_limiter
from silence_gateway.testing.local_caller import LocalCaller

if TYPE_CHECKING:
    from tests.transcoding.conftest import Desk

RULE = LimitRule(name="t", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("1000/minute"))
SPEC = LimitSpec(rule=RULE, any=True, cost=Cost(amount=10, answer_header=b"x-tokens"))
TELLS = [(b"x-tokens", b"44")]
UNARY, STREAM = "/library.v1.Library/Nothing", "/v1/watch/x"


def caller_of(where: str, registry: Registry) -> LocalCaller:
    """Return an upstream that says at one place what an answer has cost."""
    described = registry.message("library.v1.Inner")
    assert described is not None
    message = described.type(n=1).to_binary()
    failing = {
        "error": RpcError(8, "enough", trailing_metadata=TELLS),
        "late error": RpcError(8, "enough", trailing_metadata=TELLS),
        "never reached": UpstreamUnavailable("nobody there", sent=False),
        "silence": UpstreamUnavailable("broke"),
    }.get(where)

    def nothing(_message: bytes) -> bytes:
        if failing is not None:
            raise failing
        return b""

    async def watch(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        if failing is not None and where != "late error":
            raise failing
        if where != "empty":
            yield message
        if failing is not None:
            raise failing

    return LocalCaller(
        {UNARY.encode(): nothing},
        {b"/library.v1.Library/Watch": watch},
        initial_metadata=TELLS if where == "head" else (),
        trailing_metadata=TELLS if where in {"trailer", "empty"} else (),
    )


@pytest.mark.parametrize(
    ("method", "path"), [pytest.param("POST", UNARY, id="unary"), pytest.param("GET", STREAM, id="stream")]
)
@pytest.mark.parametrize(
    ("where", "spent"),
    [
        ("head", 44),
        ("trailer", 44),
        ("empty", 44),
        ("error", 44),
        ("late error", 44),
        ("nowhere", 10),
        ("never reached", 0),
        ("silence", 10),
    ],
)
def test_the_cost_is_read_wherever_it_is_said(
    make_desk: Callable[..., Desk], registry: Registry, method: str, path: str, where: str, spent: int
) -> None:
    desk = make_desk(caller_of(where, registry))

    async def scenario() -> None:
        store = DistantLimitStore(FakeClock())
        limiter = local_limiter([SPEC], store=store, clock=store.clock)

        async def serve(request: Request) -> Response:
            return await desk.send(request.method, request.target, b"{}" if method == "POST" else b"")

        try:
            response: Any = await limit_rate(limiter)(serve)(Request(method, path, {}, peer="ann"))
            if isinstance(response, StreamingResponse):
                async for _ in response.chunks:
                    pass
        except (UpstreamUnavailable, RpcError):
            assert where in {"never reached", "silence", "late error"}
        await settle()

        assert store.used(RULE, "ann") == spent

    asyncio.run(scenario())

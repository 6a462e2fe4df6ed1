"""Methods by name, and what is done with all others."""

from __future__ import annotations

import pytest
from tests.edge.http2_scene import ECHO, run, scene

from silence_gateway.core.grpc_messages import framed
from silence_gateway.edge.grpc_methods import speaks_grpc
from silence_gateway.edge.grpc_server import GrpcServer, StreamCall, as_path, streaming, unary
from silence_gateway.errors import ConfigError
from silence_gateway.testing.h2_client import call


def test_a_fallback_serves_every_other_method() -> None:
    async def scenario() -> None:
        async def anything(call: StreamCall) -> None:
            await call.send(call.path.encode())

        fallback = streaming(anything)
        async with scene(fallback=fallback) as served:
            client = served.client()
            client.send(call(1, ECHO, b"mine"), call(3, b"/other.Service/Method"))

            assert await client.content(1) == framed(b"mine")
            assert await client.content(3) == framed(b"/other.Service/Method")
            assert served.server.by_code()[0] == 2
            assert fallback.by_code[0] == 1

    run(scenario())


@pytest.mark.parametrize("name", ["a.B/C", "/a.B/C"])
def test_a_method_may_be_named_with_or_without_a_slash(name: str) -> None:
    assert as_path(name) == b"/a.B/C"


@pytest.mark.parametrize("name", ["", "a.B", "a.B/", "/C", "a.B/C/D", "a.B/C\n", "a.B/\u00e9"])
def test_what_is_no_name_of_a_method_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"package\.Service/Method"):
        GrpcServer({name: unary(lambda message, _: message)})


def test_a_message_bound_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_message_bytes"):
        GrpcServer({}, max_message_bytes=0)


@pytest.mark.parametrize(
    ("content_type", "speaks"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc; charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_the_content_type_says_who_speaks_grpc(content_type: bytes, speaks: bool) -> None:
    assert speaks_grpc(content_type) is speaks

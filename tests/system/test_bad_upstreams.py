"""Upstreams that answer nonsense: each call ends with an error that blames them, and the process lives."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import TypeAlias

import pytest
from tests.system.wire import Wire, get
from tests.system.yard import Gateway, Yard, until

from silence_gateway.core import h2_frames as h2
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.testing.protos import compile_protos

pytestmark = pytest.mark.system

Oddity: TypeAlias = "Callable[[H2Peer, int], None]"


def at_once(data: bytes) -> Oddity:
    """Send *data* to whoever connects, before any word of HTTP/2."""

    def oddity(peer: H2Peer, _stream: int) -> None:
        peer.send(data)

    return oddity


def half_a_message(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send(
        h2.data_frames(stream, b"\0\0\0\0\x09half", end_stream=False, max_frame_size=h2.DEFAULT_FRAME_SIZE)
    )
    peer.send_headers(stream, OK, end_stream=True)


def two_messages(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_message(stream, b"")
    peer.send_message(stream, b"")
    peer.send_headers(stream, OK, end_stream=True)


def no_message(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_headers(stream, OK, end_stream=True)


def no_status(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_message(stream, b"")
    peer.send_headers(stream, [(b"x", b"y")], end_stream=True)


def a_web_page(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [(b":status", b"200"), (b"content-type", b"text/html")])
    peer.send(h2.data_frames(stream, b"<html>", end_stream=True, max_frame_size=h2.DEFAULT_FRAME_SIZE))


def no_protobuf(peer: H2Peer, stream: int) -> None:
    peer.answer(stream, b"\xff\xff\xff")


def not_gzip(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, (b"grpc-encoding", b"gzip")])
    peer.send_message(stream, b"this is not gzip", flag=1)
    peer.send_headers(stream, OK, end_stream=True)


def too_large(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send(
        h2.data_frames(stream, b"\0\x7f\xff\xff\xff", end_stream=False, max_frame_size=h2.DEFAULT_FRAME_SIZE)
    )


def bad_header_block(peer: H2Peer, stream: int) -> None:
    peer.send(
        h2.headers_frames(
            stream, b"\xff\xff\xff\xff\xff", end_stream=True, max_frame_size=h2.DEFAULT_FRAME_SIZE
        )
    )


def reset(peer: H2Peer, stream: int) -> None:
    peer.send(h2.rst_stream_frame(stream, 2))


def hangs_up(peer: H2Peer, _stream: int) -> None:
    peer.hang_up()


def nothing(_peer: H2Peer, _stream: int) -> None:
    return


def a_flood_of_headers(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, *((b"x-%d" % number, b"y" * 1000) for number in range(2000))])


# How each misbehaves, and what the caller is told.
ODDITIES: dict[str, tuple[Oddity, set[int], str]] = {
    "noise": (at_once(b"\x00\xff" * 4000), {503}, "UNAVAILABLE"),
    "http-1": (at_once(b"HTTP/1.1 400 Bad Request\r\n\r\n"), {503}, "UNAVAILABLE"),
    "huge-frame": (at_once(b"\xff\xff\xff" + bytes(6)), {503}, "UNAVAILABLE"),
    "half-a-message": (half_a_message, {502}, "INTERNAL"),
    "two-messages": (two_messages, {502}, "INTERNAL"),
    "no-message": (no_message, {502}, "INTERNAL"),
    "no-status": (no_status, {502}, "INTERNAL"),
    "a-web-page": (a_web_page, {502}, "INTERNAL"),
    "no-protobuf": (no_protobuf, {502}, "INTERNAL"),
    "not-gzip": (not_gzip, {502}, "INTERNAL"),
    "bad-header-block": (bad_header_block, {502}, "INTERNAL"),
    "hangs-up": (hangs_up, {503}, "UNAVAILABLE"),
    "nothing": (nothing, {504}, "DEADLINE_EXCEEDED"),
    "a-flood-of-headers": (a_flood_of_headers, {502}, "INTERNAL"),
    # These two are words of gRPC: the caller is told in its own form, as if the service had said so.
    "reset": (reset, {500}, "13 the upstream reset the call: INTERNAL_ERROR"),
    "too-large": (too_large, {429}, "8 the upstream's message of 2147483647 bytes is above"),
}
NAMES = list(ODDITIES)


def script(oddity: Oddity, *, early: bool) -> Callable[[H2Peer], Awaitable[None]]:
    """Greet and answer health checks as one should, and every other call with *oddity*."""

    async def play(peer: H2Peer) -> None:
        if early:
            oddity(peer, 0)
            await peer.gone()
            return
        await peer.greet()
        while True:
            stream, pairs = await peer.headers()
            if dict(pairs)[b":path"].startswith(b"/grpc.health.v1."):
                peer.answer(stream, b"\x08\x01")
            else:
                oddity(peer, stream)

    return play


class OddServers:
    """One server for each oddity, on an event loop of their own."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self.loop = asyncio.new_event_loop()
        self.over = asyncio.Event()
        self.up = threading.Event()
        self.thread = threading.Thread(target=lambda: self.loop.run_until_complete(self.serve()), daemon=True)
        self.thread.start()
        assert self.up.wait(10)

    async def serve(self) -> None:
        async with AsyncExitStack() as servers:
            for name, (oddity, status, _) in ODDITIES.items():
                early = status == {503} and oddity is not hangs_up
                self.addresses[name] = await servers.enter_async_context(
                    scripted_server(quietly(script(oddity, early=early)))
                )
            self.up.set()
            await self.over.wait()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(10)
        self.loop.close()


def quietly(play: Callable[[H2Peer], Awaitable[None]]) -> Callable[[H2Peer], Awaitable[None]]:
    """Let the gateway hang up on a script whenever it likes: that is what it is for."""

    async def run(peer: H2Peer) -> None:
        try:
            await play(peer)
        except AssertionError:
            return

    return run


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServers]:
    servers = OddServers()
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def gateway(shared_yard: Yard, odd: OddServers) -> Gateway:
    """Return a gateway with one upstream for each oddity; the methods of all are in one file."""
    services = "\n".join(
        f"service S{number} {{ rpc Call(M) returns (M); rpc Count(M) returns (stream M) "
        f'{{ option (google.api.http) = {{get: "/count/{name}"}}; }} }}'
        for number, name in enumerate(NAMES)
    )
    described = shared_yard.folder / "odd.binpb"
    described.write_bytes(
        compile_protos(
            {
                "odd.proto": f"""
                    syntax = "proto3"; package odd; import "google/api/annotations.proto";
                    message M {{ string text = 1; }} {services}
                """
            }
        )
    )
    lines = ['listen: "@listen@"', 'admin: {listen: "@admin@"}', 'store: {url: "memory://"}', "upstreams:"]
    for number, name in enumerate(NAMES):
        lines.append(
            f'  "{name}": {{endpoints: ["{odd.addresses[name]}"], descriptors: {described}, '
            f"services: [odd.S{number}], timeout: 1s}}"
        )
    return shared_yard.gateway("\n".join([*lines, "telemetry: {access_log: none}"]))


@pytest.mark.parametrize("name", NAMES)
def test_a_call_ends_with_an_error_that_blames_the_upstream(gateway: Gateway, name: str) -> None:
    _, statuses, code = ODDITIES[name]
    series = f'silence_upstream_calls_total{{upstream="{name}"'

    def counted() -> int:
        text = gateway.admin("GET", "/metrics").body.decode()
        return sum(int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(series))

    before = counted()
    answer = gateway.ask("POST", f"/odd.S{NAMES.index(name)}/Call", {})

    said = answer.json()
    assert answer.status in statuses, answer.body
    if code[0].isdigit():
        assert f"{said['code']} {said['message']}".startswith(code)
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert said["code"] == code, answer.body
    assert b"127.0.0.1" not in answer.body
    until(lambda: counted() > before, "the call is counted")


def test_a_stream_whose_upstream_breaks_says_so(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        wire.send(get("/count/half-a-message", "Accept: application/x-ndjson", "Connection: close"))
        answer = wire.rest()

    assert b" 502 " in answer.split(b"\r\n")[0]
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "INTERNAL"


def test_the_process_is_well_afterwards(gateway: Gateway) -> None:
    assert gateway.popen.poll() is None
    assert gateway.admin("GET", "/readyz").status == 200
    assert "Traceback" not in gateway.output()
    until(lambda: gateway.metric("silence_endpoint_in_flight") == 0, "no call is left")

"""One client that sends as fast as it can, and everybody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

from silence_gateway.core.http import Request, Response, UpgradeResponse
from silence_gateway.core.sockets import Socket
from silence_gateway.core.websocket import TEXT, masked_frame
from silence_gateway.edge.websocket import TURN_BYTES, WebSocketConnection

if TYPE_CHECKING:
    from tests.edge.conftest import Run, Serving

MASK = b"abcd"


class Keeper:
    """Keeps what it gets; `last` ends it, `pause` pauses, `bye` closes."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.paused = asyncio.Event()
        self.ended = asyncio.Event()
        self.socket: Socket

    async def __call__(self, _request: Request) -> Response:
        return UpgradeResponse(self, "")

    def on_open(self, socket: Socket) -> None:
        self.socket = socket

    def on_text(self, payload: bytes) -> None:
        self.got.append(payload)
        match payload:
            case b"pause":
                self.socket.pause_reading()
                self.paused.set()
            case b"bye":
                self.socket.close(3000, "as asked")
            case b"last":
                self.ended.set()

    def on_binary(self, payload: bytes) -> None:
        """Not used here."""

    def on_close(self, code: int, reason: str) -> None:
        """Not used here."""

    def on_drained(self) -> None:
        """Not used here."""

    def on_shutdown(self) -> None:
        self.socket.close(1012)


def said(*messages: bytes) -> bytes:
    return b"".join(masked_frame(TEXT, message, MASK) for message in messages)


NUMBERS = [b"%04d" % number for number in range(5000)]


def test_a_client_that_sends_without_end_is_heard_in_turns(run: Run, serving: Serving) -> None:
    async def main() -> None:
        keeper = Keeper()
        async with serving(keeper) as served, connect(f"ws://127.0.0.1:{served.port}/"):
            (socket,) = served.server.websockets

            socket.data_received(said(*NUMBERS, b"last"))

            heard = [len(keeper.got)]
            assert 0 < heard[0] <= TURN_BYTES // len(said(NUMBERS[0]))
            asyncio.get_running_loop().call_soon(lambda: heard.append(len(keeper.got)))
            await asyncio.wait_for(keeper.ended.wait(), 10)
            assert heard[1] < len(NUMBERS), "somebody else had a turn in between"
            assert keeper.got == [*NUMBERS, b"last"]

    run(main())


def test_a_pause_in_the_middle_of_a_flood_holds_everything_behind_it(run: Run, serving: Serving) -> None:
    async def main() -> None:
        keeper = Keeper()
        async with serving(keeper) as served, connect(f"ws://127.0.0.1:{served.port}/") as client:
            (socket,) = served.server.websockets
            assert isinstance(socket, WebSocketConnection)
            behind = said(*NUMBERS)

            socket.data_received(said(*NUMBERS, b"pause") + behind[:20_001])
            await asyncio.wait_for(keeper.paused.wait(), 10)
            socket.data_received(behind[20_001:])
            await client.send(b"last", text=True)
            await asyncio.sleep(0)
            assert keeper.got[-1] == b"pause"

            socket.resume_reading()
            await asyncio.wait_for(keeper.ended.wait(), 10)
            assert keeper.got == [*NUMBERS, b"pause", *NUMBERS, b"last"]

    run(main())


def test_what_follows_a_goodbye_in_a_flood_is_not_heard(run: Run, serving: Serving) -> None:
    async def main() -> None:
        keeper = Keeper()
        async with serving(keeper) as served, connect(f"ws://127.0.0.1:{served.port}/") as client:
            (socket,) = served.server.websockets

            socket.data_received(said(*NUMBERS, b"bye", *NUMBERS))
            await asyncio.wait_for(client.wait_closed(), 10)

            assert client.close_code == 3000
            assert keeper.got == [*NUMBERS, b"bye"]

    run(main())

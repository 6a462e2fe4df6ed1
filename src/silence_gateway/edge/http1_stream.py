"""
Answers of unknown length, sent piece by piece as they are made.

The next piece is asked for only when the client has taken what was sent, up to the write buffer's
marks: a slow reader costs one buffer, however long the answer is.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

from silence_gateway.core.http import HeaderList, Request, StreamingResponse
from silence_gateway.core.http_head import list_items
from silence_gateway.edge.http1_answers import send_answer, streaming_head
from silence_gateway.edge.http1_writer import BODILESS, chunk, last_chunk
from silence_gateway.edge.problems import answer_error

if TYPE_CHECKING:
    from silence_gateway.edge.http1 import Http1Connection

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


async def stream_answer(connection: Http1Connection, request: Request, response: StreamingResponse) -> None:
    """
    Send *response*; its head leaves with the first piece, so that a failure before it is a clean error.

    An empty first piece sends the head alone. Cancelling this ends the answer; `aclose` is called on the
    chunks in every case.
    """
    chunks = response.chunks
    left = response.length
    is_chunked = request.http_version != "1.0" and left is None
    begun = False
    try:
        if request.method == "HEAD" or response.status in BODILESS:
            head = streaming_head(connection, request, response)
            if head is not None:
                connection.write(head)
            return
        async for piece in chunks:
            if left is not None:
                left -= len(piece)
            data = piece if not is_chunked or not piece else chunk(piece)
            if not begun:
                head = streaming_head(connection, request, response)
                if head is None:
                    return
                data = head + data
                begun = True
            if data:
                connection.write(data)
            if connection.write_paused:
                await drained(connection)
        if not begun:
            head = streaming_head(connection, request, response)
            if head is None:
                return
            connection.write(head)
        if left:
            # Fewer bytes than were promised: the end of the connection says so.
            connection.keep_alive = False
        if is_chunked:
            connection.write(last_chunk(trailers_for(request, response)))
    except Exception as error:  # noqa: BLE001 - whatever a maker of pieces does, its client must notice
        failed = answer_error(error, request, connection.server.observer)
        if begun:
            break_off(connection, is_framed=is_chunked or left is not None)
        else:
            send_answer(connection, request, failed)
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def trailers_for(request: Request, response: StreamingResponse) -> HeaderList:
    """Return what goes out behind the last chunk: nothing to those who did not say that they read it."""
    te = request.headers.get(b"te")
    if te is None or b"trailers" not in list_items(te):
        return []
    trailers: HeaderList = getattr(response.chunks, "trailers", [])
    return trailers


async def drained(connection: Http1Connection) -> None:
    """Return when the client has taken enough to be sent more."""
    if connection.drained is None:
        connection.drained = asyncio.get_running_loop().create_future()
    await connection.drained


def break_off(connection: Http1Connection, *, is_framed: bool) -> None:
    """
    End the connection so that no client takes what it has for the whole.

    Where the last chunk is missing, or bytes that were promised, everybody notices, and what was sent still
    arrives: the error that the last piece tells of is there for slow readers too. Without framing only a
    reset says it, which throws away what the client has not taken yet.
    """
    connection.keep_alive = False
    if is_framed:
        return
    sock = connection.transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.transport.close()

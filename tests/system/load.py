"""
A steady trickle of requests beside a test, each with when it was sent, how long it took and what came.

Open loop: requests are sent at their time whatever became of those before, on kept connections, as many
as it takes; what is slow shows as latency and not as fewer requests.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from types import TracebackType
from typing import Self

ANSWER_DEADLINE_S = 10.0
REFUSED = -1
BROKEN = -2
LATE = -3
KINDS = {REFUSED: "connection refused", BROKEN: "connection broken", LATE: "no answer"}


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: when it was sent, how long its answer took, its status or one of `KINDS`."""

    at_s: float
    took_s: float
    status: int


@dataclass
class Load:
    """
    Sends *rate* requests a second to 127.0.0.1:*port* while the `with` block runs.

    Attributes:
        sent: Every request that has ended, in the order in which they ended.
    """

    port: int
    rate: float = 100.0
    path: str = "/v1/drinks/latte"
    headers: tuple[str, ...] = ()
    sent: list[Sent] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Send no more, and wait for what is under way."""
        self._over.set()
        self._thread.join(ANSWER_DEADLINE_S + 5)
        assert not self._thread.is_alive()

    def statuses(self, since_s: float = 0.0, until_s: float = float("inf")) -> Counter[int]:
        """Count what came of requests sent between two times of `time.monotonic`."""
        return Counter(each.status for each in list(self.sent) if since_s <= each.at_s < until_s)

    def failed(self) -> list[str]:
        """Describe every request that was not answered, or answered with 5xx."""
        return [
            f"{KINDS.get(each.status, each.status)} after {each.took_s:.3f} s"
            for each in list(self.sent)
            if each.status < 0 or each.status >= 500
        ]

    def median_s(self, since_s: float, until_s: float = float("inf")) -> float:
        """Return the median latency of requests sent between two times."""
        return median(each.took_s for each in list(self.sent) if since_s <= each.at_s < until_s)

    def worst_s(self) -> float:
        """Return the longest that any request took."""
        return max(each.took_s for each in list(self.sent))

    async def _run(self) -> None:
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        running: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while not self._over.is_set():
            task = loop.create_task(self._one())
            running.add(task)
            task.add_done_callback(running.discard)
            due_s = max(due_s + 1 / self.rate, loop.time() - 0.1)
            await asyncio.sleep(max(0.0, due_s - loop.time()))
        await asyncio.gather(*running)
        for _, writer in self._idle:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    async def _one(self) -> None:
        at_s = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                status = await self._ask()
        except TimeoutError:
            status = LATE
        self.sent.append(Sent(at_s, time.monotonic() - at_s, status))

    async def _ask(self) -> int:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                break
            writer.close()
        else:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                return REFUSED
        lines = [f"GET {self.path} HTTP/1.1", "Host: gateway", *self.headers, "", ""]
        keep = False
        try:
            writer.write("\r\n".join(lines).encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(size)
            keep = b"connection: close" not in head
            return int(head.split(b" ", 2)[1])
        except (OSError, asyncio.IncompleteReadError):
            return BROKEN
        finally:
            if keep:
                self._idle.append((reader, writer))
            else:
                writer.close()

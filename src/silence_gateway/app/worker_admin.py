"""
Several workers seen as one instance: the parent asks each over its private unix socket and merges.

What only the store knows (sessions, limits, access lists, nodes) any worker can tell; what each worker
counts for itself (totals, upstream calls, and without the store how limits are used) is added up.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from silence_gateway.admin.contracts import Answer, Ask, Readiness, worst
from silence_gateway.app.kept_counts import KeptCounts
from silence_gateway.app.worker_limits import OWN_COUNTS, limits_together
from silence_gateway.app.worker_upstreams import HISTOGRAMS, UPSTREAMS, upstreams_together
from silence_gateway.errors import GatewayError
from silence_gateway.watch.families import Family, from_json, merged

ASK_DEADLINE_S = 5.0
# Paths of the API whose answers are each worker's own and are added up; others any worker can give.
ADDED_UP = frozenset({"stats"})
# What is begun anew is each worker's own and must reach all; what the store keeps is changed once.
FOR_ALL = re.compile(r"upstreams/(?:.+/)?stats")
STORE_AWAY = 503
CALLER = "X-Silence-Caller"
NOBODY = Answer(503, {"error": "no worker answers yet"})


class WorkerSilent(GatewayError):
    """A worker did not answer its private socket; it is starting, stopping or stuck."""


async def ask_worker(
    socket_path: str, method: str, path: str, items: Sequence[Any] | None = None, caller: str = ""
) -> tuple[int, Any]:
    """
    Send one request to a worker's private socket and return the status and the decoded JSON.

    Args:
        socket_path: Where the worker listens.
        method: HTTP method.
        path: Path and query.
        items: What the body lists, if there is one.
        caller: Who has asked us; goes on to the worker's audit.

    Raises:
        WorkerSilent: It did not answer within ASK_DEADLINE_S seconds.
    """
    try:
        async with asyncio.timeout(ASK_DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(socket_path)
            try:
                body = b"" if items is None else json.dumps(items).encode()
                writer.write(
                    f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    f"{CALLER}: {caller}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                data = await reader.read(-1)
            finally:
                writer.close()
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), json.loads(body)
    except (OSError, TimeoutError, ValueError, IndexError) as exc:
        raise WorkerSilent(f"{socket_path}: {exc or type(exc).__name__}") from exc


class WorkersInstance:
    """
    The workers of one parent, as the admin listener sees them.

    Args:
        sockets: Returns the private sockets of the workers that run now, by a name that no later worker has.
        draining: Whether the parent is on its way out.
        own: The parent's own metrics (restarts).
        local: Paths that the parent answers itself (config, drain).
        shared: Whether the workers share a store; with memory:// each keeps its own state.
    """

    def __init__(
        self,
        sockets: Callable[[], Mapping[str, str]],
        draining: Callable[[], bool],
        own: Callable[[], list[Family]],
        local: Mapping[str, Callable[[Ask], Answer]],
        *,
        shared: bool,
    ) -> None:
        self._sockets = sockets
        self._draining = draining
        self._own = own
        self._local = local
        self._shared = shared
        self._kept = KeptCounts()

    async def _by_worker(self, method: str, path: str) -> dict[str, tuple[int, Any]]:
        sockets = self._sockets()
        answers = await asyncio.gather(
            *(ask_worker(socket, method, path) for socket in sockets.values()), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, WorkerSilent):
                raise answer
        return {
            name: answer
            for name, answer in zip(sockets, answers, strict=True)
            if not isinstance(answer, BaseException)
        }

    async def _all(self, method: str, path: str) -> list[tuple[int, Any]]:
        return list((await self._by_worker(method, path)).values())

    async def readiness(self) -> Readiness:
        """Say whether traffic may come: while any worker takes it."""
        if self._draining():
            return Readiness("draining", {"gateway": "draining"})
        return worst(
            [Readiness(body["word"], body["parts"]) for _, body in await self._all("GET", "/readiness")]
        )

    async def families(self) -> list[Family]:
        """Return every worker's metrics as one answer."""
        answers = await self._by_worker("GET", "/families")
        families = {name: from_json(body) for name, (status, body) in answers.items() if status == 200}
        return merged([*self._kept.with_all(families, self._sockets().keys()), self._own()])

    async def call(self, ask: Ask) -> Answer:
        """Answer one API call."""
        if ask.path in self._local:
            return self._local[ask.path](ask)
        query = ask.query
        of_upstreams = ask.method == "GET" and UPSTREAMS.fullmatch(ask.path) is not None
        if of_upstreams and query.get(HISTOGRAMS, "false") == "false":
            query = {**query, HISTOGRAMS: "true"}
        path = f"/api/v1/{ask.path}" + (f"?{urlencode(query)}" if query else "")
        if ask.method != "GET" and not FOR_ALL.fullmatch(ask.path):
            return await self._change(ask, path)
        if ask.items is not None:
            return Answer(400, {"error": "the body may be a list only where several things are changed"})
        answers = await self._all(ask.method, path)
        if not answers:
            return NOBODY
        good = [body for status, body in answers if status == 200]
        if ask.path in ADDED_UP:
            return Answer(200, added(good))
        if good and of_upstreams:
            return Answer(200, upstreams_together(good, histograms=query == ask.query))
        if good and ask.method == "GET" and OWN_COUNTS.fullmatch(ask.path):
            return Answer(200, limits_together(good))
        if ask.method != "GET":
            worst_status = max(status for status, _ in answers)
            return next(Answer(status, body) for status, body in answers if status == worst_status)
        return Answer(*answers[0])

    async def _change(self, ask: Ask, path: str) -> Answer:
        """Change what the store keeps: by one worker, or by each where the store is away or is none."""
        best = NOBODY
        for socket in self._sockets().values():
            try:
                status, body = await ask_worker(socket, ask.method, path, ask.items, ask.caller)
            except WorkerSilent:
                continue
            told = not (isinstance(body, dict) and body.get("fleet") is False)
            if best is NOBODY or status < best.status or (status == best.status and told):
                best = Answer(status, body)
            if self._shared and status != STORE_AWAY and told:
                break
        return best


def added(answers: Sequence[Any]) -> Any:
    """
    Add up answers of one shape: numbers are summed, objects merged by key, lists of named things by name.

    A text, a yes or a no is the first worker's: health and breaker states are shared by the fleet anyway.
    """
    first = answers[0] if answers else {}
    if isinstance(first, dict):
        keys = [key for answer in answers for key in answer]
        found = {key: [answer[key] for answer in answers if key in answer] for key in dict.fromkeys(keys)}
        return {key: added(values) for key, values in found.items()}
    if isinstance(first, list) and all(isinstance(item, dict) for answer in answers for item in answer):
        groups: dict[str, list[Any]] = {}
        for answer in answers:
            for item in answer:
                groups.setdefault(str(item.get("name", item.get("address", len(groups)))), []).append(item)
        return [added(group) for group in groups.values()]
    if isinstance(first, (int, float)) and not isinstance(first, bool):
        return sum(answer for answer in answers if isinstance(answer, (int, float)))
    return first

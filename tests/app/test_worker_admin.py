"""Several workers answer the admin API as one instance would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from silence_gateway.admin.contracts import Answer, Ask
from silence_gateway.app.worker_admin import WorkersInstance, added
from silence_gateway.core.http import Request, Response
from silence_gateway.edge.listen import open_sockets
from silence_gateway.edge.server import HttpServer


def of_workers(
    folder: Path, ask: Ask, answers: list[Response], *, shared: bool = True
) -> tuple[Answer, list[int]]:
    """Return what workers that give *answers* say together to *ask*, and which of them were asked."""
    asked: list[int] = []

    async def start(number: int, answer: Response) -> HttpServer:
        async def handle(_request: Request) -> Response:
            asked.append(number)
            return answer

        server = HttpServer(handle)
        await server.start(open_sockets([f"unix:{folder}/{number}"], reuse_port=False))
        return server

    async def main() -> Answer:
        async with AsyncExitStack() as stack:
            for number, answer in enumerate(answers):
                server = await start(number, answer)
                stack.push_async_callback(server.abort)
            sockets: Mapping[str, str] = {str(number): f"{folder}/{number}" for number in range(len(answers))}
            instance = WorkersInstance(lambda: sockets, lambda: False, list, {}, shared=shared)
            return await instance.call(ask)

    return asyncio.run(main()), sorted(asked)


def said(status: int, body: bytes = b"{}") -> Response:
    return Response(status, [], body)


def test_what_the_store_keeps_is_changed_once(tmp_path: Path) -> None:
    ask = Ask("DELETE", "access/deny/203.0.113.7")

    assert of_workers(tmp_path, ask, [said(200, b'{"removed":1}'), said(404)]) == (
        Answer(200, {"removed": 1}),
        [0],
    )


def test_a_list_and_who_sent_it_reach_the_worker_that_makes_the_change(tmp_path: Path) -> None:
    heard: list[tuple[str, bytes, bytes | None]] = []

    async def handle(request: Request) -> Response:
        heard.append((request.target, request.body, request.headers.get(b"x-silence-caller")))
        return said(200, b'{"added": 1}')

    async def main() -> tuple[Answer, Answer]:
        server = HttpServer(handle)
        await server.start(open_sockets([f"unix:{tmp_path}/0"], reuse_port=False))
        try:
            instance = WorkersInstance(lambda: {"0": f"{tmp_path}/0"}, lambda: False, list, {}, shared=True)
            items = [{"cidr": "10.0.0.1", "reason": "\u2603"}]
            changed = await instance.call(Ask("PUT", "access/deny", items=items, caller="admin API from ::1"))
            return changed, await instance.call(Ask("GET", "stats", items=items))
        finally:
            await server.abort()

    changed, refused = asyncio.run(main())

    assert (changed, refused.status) == (Answer(200, {"added": 1}), 400)
    [(target, body, caller)] = heard
    assert (target, json.loads(body), caller) == (
        "/api/v1/access/deny",
        [{"cidr": "10.0.0.1", "reason": "\u2603"}],
        b"admin API from ::1",
    )


def test_while_the_store_is_away_every_worker_is_told(tmp_path: Path) -> None:
    answer, asked = of_workers(tmp_path, Ask("PUT", "access/deny/203.0.113.7"), [said(503), said(503)])

    assert (answer.status, asked) == (503, [0, 1])


def test_workers_without_a_shared_store_are_all_told(tmp_path: Path) -> None:
    ask = Ask("DELETE", "sessions/s1")

    answer, asked = of_workers(tmp_path, ask, [said(404), said(200), said(404)], shared=False)

    assert (answer.status, asked) == (200, [0, 1, 2])


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_nobody_to_ask_is_said(tmp_path: Path, method: str) -> None:
    assert of_workers(tmp_path, Ask(method, "limits"), [])[0].status == 503


def test_an_operators_word_is_said_once_where_the_fleet_hears_it(tmp_path: Path) -> None:
    answers = [said(200, b'{"fleet": true}'), said(200, b'{"fleet": true}')]

    answer, asked = of_workers(tmp_path, Ask("PUT", "upstreams/a/endpoints/b"), answers)

    assert (answer, asked) == (Answer(200, {"fleet": True}), [0])


def test_an_operators_word_is_said_to_every_worker_until_one_can_tell_the_fleet(tmp_path: Path) -> None:
    answers = [said(200, b'{"fleet": false}'), said(200, b'{"fleet": true}'), said(200, b'{"fleet": true}')]

    answer, asked = of_workers(tmp_path, Ask("PUT", "upstreams/a/endpoints/b"), answers)

    assert (answer, asked) == (Answer(200, {"fleet": True}), [0, 1])


def test_statistics_of_upstreams_are_begun_anew_by_every_worker(tmp_path: Path) -> None:
    ask = Ask("DELETE", "upstreams/a/stats")

    assert of_workers(tmp_path, ask, [said(200), said(200)])[1] == [0, 1]


def test_limits_that_each_counted_for_itself_are_added_up(tmp_path: Path) -> None:
    counted = b'[{"name": "a", "burst": 5, "counted_by": "this instance", "allowed": %d}]'
    answers = [said(200, counted % 3), said(503), said(200, counted % 4)]

    answer, asked = of_workers(tmp_path, Ask("GET", "limits"), answers, shared=False)

    assert answer.body == [{"name": "a", "burst": 5, "counted_by": "this instance", "allowed": 7}]
    assert asked == [0, 1, 2]


def test_statistics_without_a_shared_store_are_reset_by_every_worker(tmp_path: Path) -> None:
    answers = [said(200, b'{"reset": ["a"]}')] * 2

    of_all = of_workers(tmp_path, Ask("DELETE", "limits/a/stats"), answers, shared=False)
    of_one = of_workers(tmp_path, Ask("DELETE", "limits/a/stats"), answers)

    assert of_all == (Answer(200, {"reset": ["a"]}), [0, 1])
    assert of_one == (Answer(200, {"reset": ["a"]}), [0])


def test_totals_are_added_and_words_are_not() -> None:
    one = {"requests": {"total": 1, "by_status": {"200": 1}}, "store": {"state": "up"}}
    two = {"requests": {"total": 2, "by_status": {"404": 2}}, "store": {"state": "up"}}

    assert added([one, two]) == {
        "requests": {"total": 3, "by_status": {"200": 1, "404": 2}},
        "store": {"state": "up"},
    }


@pytest.mark.parametrize("wanted", [{}, {"histograms": "false"}, {"histograms": "true"}])
def test_upstreams_are_put_together_from_histograms_whoever_wants_them(
    wanted: dict[str, str], tmp_path: Path
) -> None:
    told = {
        "name": "shop", "since_us": 5, "instances": ["i"], "departed": [], "discovery": [], "endpoints": [],
        "latency": {"calls": 2, "p50_s": 0.1, "p90_s": 0.1, "p99_s": 0.1, "counts": {"0.1": 2}},
    }  # fmt: skip
    answers = [said(200, json.dumps([told]).encode())] * 3

    answer, asked = of_workers(tmp_path, Ask("GET", "upstreams", wanted), answers)

    (shop,) = answer.body
    assert asked == [0, 1, 2]
    assert (shop["instances"], shop["latency"]["calls"]) == (["i"] * 3, 6)
    assert shop["latency"].get("counts") == ({"0.1": 6} if wanted.get("histograms") == "true" else None)


def test_what_every_worker_refuses_is_refused(tmp_path: Path) -> None:
    answer, _ = of_workers(tmp_path, Ask("GET", "upstreams/x"), [said(404, b'{"error": "no x"}')] * 2)

    assert answer == Answer(404, {"error": "no x"})

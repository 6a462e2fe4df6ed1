"""The page about limits in apps: every program in it runs, and does what the page says."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from scripts import docs
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

PAGE = (docs.ROOT / "docs" / "how-to" / "limits-in-your-app.md").read_text()
PROGRAMS = [text for language, text in docs.FENCE.findall(PAGE) if language == "python"]

Check = Callable[[dict[str, Any], str], None]


def statuses(client: TestClient, times: int, method: str, path: str, **headers: str) -> list[int]:
    return [client.request(method, path, headers=headers).status_code for _ in range(times)]


def start(names: dict[str, Any], _printed: str) -> None:
    with TestClient(names["app"]) as client:
        assert statuses(client, 6, "POST", "/login") == [200] * 5 + [429]
        assert '"all-100-per-m";r=94;' in client.get("/").headers["ratelimit"]


def around_litestar(names: dict[str, Any], _printed: str) -> None:
    with TestClient(names["app"]) as client:
        assert statuses(client, 3, "GET", "/") == [200, 200, 429]


def what_a_limit_says(names: dict[str, Any], _printed: str) -> None:
    with TestClient(names["app"]) as client:
        acme, other = {"X-Tenant": "acme"}, {"X-Tenant": "other"}
        assert [client.post("/items", headers=acme).status_code for _ in range(6)] == [200] * 5 + [429]
        assert client.get("/items", headers=other).headers["ratelimit"].startswith('"bucket";r=49;')
        assert "ratelimit" not in client.get("/health").headers


def on_one_route(names: dict[str, Any], _printed: str) -> None:
    with TestClient(names["app"]) as client:
        assert client.get("/search?words=a+b").json() == ["a", "b"]
        assert client.get("/search").status_code == 422
        assert statuses(client, 6, "POST", "/reports") == [200] * 5 + [429]
        acme = {"X-Tenant": "acme"}
        assert [client.post("/complete", headers=acme).json() for _ in range(3)] == [900, 860, 820]


def websockets(names: dict[str, Any], _printed: str) -> None:
    with (
        TestClient(names["app"]) as client,
        client.websocket_connect("/chat") as one,
        client.websocket_connect("/chat"),
    ):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/chat"):
            pass
        one.send_text("a" * 60)
        assert one.receive_text() == "a" * 60
        one.send_text("a" * 60)
        with pytest.raises(WebSocketDisconnect) as closed:
            one.receive_text()
        assert closed.value.code == 4029


def without_a_request(_names: dict[str, Any], printed: str) -> None:
    lines = printed.splitlines()
    assert lines[:7] == [f"mail {number}" for number in range(7)]
    assert lines[7:] == ["not five more at once", "not within 0.1 s: ('mails',)"]


CHECKS: list[Check] = [
    start,
    around_litestar,
    what_a_limit_says,
    on_one_route,
    websockets,
    without_a_request,
]


def test_every_program_of_the_page_is_checked() -> None:
    assert len(PROGRAMS) == len(CHECKS)


@pytest.mark.parametrize(
    ("number", "check"),
    [
        # The last one waits for its turn, in real time.
        pytest.param(
            number, check, id=check.__name__, marks=[pytest.mark.system] * (check is without_a_request)
        )
        for number, check in enumerate(CHECKS)
    ],
)
def test_a_program_of_the_page_does_what_the_page_says(
    number: int, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"program_{number}_of_the_page"
    (tmp_path / f"{name}.py").write_text(PROGRAMS[number])
    monkeypatch.syspath_prepend(tmp_path)
    with redirect_stdout(io.StringIO()) as printed:
        module = import_module(name)

    check(vars(module), printed.getvalue())

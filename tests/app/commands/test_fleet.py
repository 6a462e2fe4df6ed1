"""The commands that ask a running gateway."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from silence_gateway.app.cli import run_command

if TYPE_CHECKING:
    from tests.app.conftest import ScriptedAdmin


@pytest.mark.parametrize("name", ["nodes"])
def test_a_list_is_a_table_or_json(
    name: str, admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = [{"name": "login", "endpoints": []}]
    admin.answers[f"GET /api/v1/{name}"] = (200, json.dumps(body).encode())
    monkeypatch.setenv("SILENCE_ADMIN", admin.url)
    monkeypatch.setenv("SILENCE_ADMIN_TOKEN", "t0ken")

    assert run_command([name]) == 0
    assert capsys.readouterr().out
    assert run_command([name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == body
    assert admin.asked[0] == (f"GET /api/v1/{name}", "Bearer t0ken")


def test_sessions_are_asked_for_by_user_and_channel(admin: ScriptedAdmin) -> None:
    asked = "GET /api/v1/sessions?user=a%26b&channel=chat%3Ax&limit=5"
    admin.answers[asked] = (200, b"[]")
    given = ["--user", "a&b", "--channel", "chat:x", "--limit", "5"]

    assert run_command(["sessions", "--admin", admin.url, *given]) == 0
    assert admin.asked == [(asked, None)]


def test_drain_is_a_post(admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    admin.answers["POST /api/v1/drain"] = (200, b"{}")

    assert run_command(["drain", "--admin", admin.url]) == 0
    assert capsys.readouterr().out == "draining\n"


@pytest.mark.parametrize(
    ("status", "word", "code"),
    [(200, "ready", 0), (200, "degraded", 0), (503, "draining", 3), (200, "<html>", 3)],
)
def test_healthcheck_says_whether_traffic_may_come(
    status: int, word: str, code: int, admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    admin.answers["GET /readyz"] = (status, word.encode() + b"\n")

    assert run_command(["healthcheck", "--admin", admin.url]) == code
    assert capsys.readouterr().out == f"{word}\n"


def test_failures_exit_by_who_must_act(admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["nodes", "--admin", admin.url]) == 3
    assert "answers 404: nothing here" in capsys.readouterr().err
    assert run_command(["nodes", "--admin", "ftp://x"]) == 1
    assert "is not an admin URL" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "path"),
    [
        pytest.param(["shop"], "upstreams/shop", id="of-the-upstream"),
        pytest.param(["shop", "10.0.0.1:1"], "upstreams/shop/endpoints/10.0.0.1%3A1", id="of-one-endpoint"),
    ],
)
def test_a_breaker_is_held_by_naming_what_it_guards(
    names: list[str], path: str, admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = f"PUT /api/v1/{path}?breaker=open&reason=moving&ttl=10m"
    admin.answers[asked] = (200, b"{}")
    given = ["--reason", "moving", "--ttl", "10m", "--admin", admin.url]

    assert run_command(["upstreams", "breaker", *names, "open", *given]) == 0

    assert admin.asked == [(asked, None)]
    assert capsys.readouterr().out == f"{' '.join(names)}: circuit breaker held open for 10m\n"


@pytest.mark.parametrize(
    "given",
    [["ajar"], ["10.0.0.1:1", "10.0.0.2:1", "open"], ["open", "10.0.0.1:1"], ["open", "--ttl", ""]],
)
def test_a_breaker_is_told_one_word_at_the_end(given: list[str], admin: ScriptedAdmin) -> None:
    assert run_command(["upstreams", "breaker", "shop", *given, "--admin", admin.url]) == 2
    assert admin.asked == []


def test_a_breaker_that_there_is_not_is_the_users_mistake(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "PUT /api/v1/upstreams/shpo?breaker=open&ttl=1h"
    admin.answers[asked] = (404, b'{"error": "there is no upstream \'shpo\'"}')

    assert run_command(["upstreams", "breaker", "shpo", "open", "--admin", admin.url]) == 1
    assert capsys.readouterr().err == "error: there is no upstream 'shpo'\n"

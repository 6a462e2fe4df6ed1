"""`silence upstreams`: what it asks a running gateway, and what it says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from silence_gateway.app.cli import run_command
from silence_gateway.app.commands import upstreams

if TYPE_CHECKING:
    from tests.app.conftest import ScriptedAdmin

SHOP: dict[str, Any] = {
    "name": "shop",
    "instances": ["i1"],
    "endpoints": [
        {"address": "a:1", "state": "ready", "codes": {"OK": 3}},
        {"address": "b:1", "state": "out", "reason": "no connection"},
    ],
}


@pytest.fixture(autouse=True)
def _here(admin: ScriptedAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SILENCE_ADMIN", admin.url)


def answers(admin: ScriptedAdmin, asked: str, body: object, status: int = 200) -> None:
    admin.answers[asked] = (status, json.dumps(body).encode())


def test_all_upstreams_are_a_table_or_json(admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    answers(admin, "GET /api/v1/upstreams", [SHOP])

    assert run_command(["upstreams"]) == 0
    text = capsys.readouterr().out
    assert "shop: 1 of 2 ready" in text
    assert "\x1b" not in text
    assert run_command(["upstreams", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [SHOP]


def test_one_upstream_is_shown_in_full_and_so_is_one_endpoint(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(admin, "GET /api/v1/upstreams/shop", SHOP)

    assert run_command(["upstreams", "show", "shop"]) == 0
    text = capsys.readouterr().out
    assert ("a:1  ready" in text, "b:1  out" in text) == (True, True)
    assert run_command(["upstreams", "show", "shop", "b:1"]) == 0
    text = capsys.readouterr().out
    assert ("a:1" in text, "b:1  out" in text) == (False, True)
    assert run_command(["upstreams", "show", "shop", "c:1"]) == 1
    assert "it has a:1, b:1" in capsys.readouterr().err


def test_an_upstream_that_there_is_not_is_the_users_mistake(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(admin, "GET /api/v1/upstreams/shpo", {"error": "there is no upstream 'shpo'"}, 404)

    assert run_command(["upstreams", "show", "shpo"]) == 1
    assert capsys.readouterr().err == "error: there is no upstream 'shpo'\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["upstreams", "-w", "--every", "3s"],
        ["upstreams", "--watch", "--every", "3s", "show", "shop"],
        ["upstreams", "show", "shop", "-w", "--every", "3s"],
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_watching_asks_again_until_ctrl_c(
    arguments: list[str],
    as_json: bool,
    admin: ScriptedAdmin,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers(admin, "GET /api/v1/upstreams", [SHOP])
    answers(admin, "GET /api/v1/upstreams/shop", SHOP)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(upstreams, "sleep", sleep)

    assert run_command([arguments[0], *(["--json"] if as_json else []), *arguments[1:]]) == 0
    said = capsys.readouterr().out
    assert (len(admin.asked), waits) == (3, [3.0] * 3)
    if as_json:
        assert [json.loads(line) in (SHOP, [SHOP]) for line in said.splitlines()] == [True] * 3
    else:
        assert said.count("shop: 1 of 2 ready") == 3


def test_on_a_terminal_states_have_colours_unless_nobody_wants_them(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(admin, "GET /api/v1/upstreams", [SHOP])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)

    assert run_command(["upstreams"]) == 0
    assert "\x1b[31mout\x1b[0m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert run_command(["upstreams"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(("fleet", "more"), [(True, ""), (False, " (at this instance: ")])
def test_statistics_are_begun_anew(
    fleet: bool, more: str, admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    answers(admin, "DELETE /api/v1/upstreams/shop/stats", {"reset": ["shop"], "fleet": fleet})
    answers(admin, "DELETE /api/v1/upstreams/stats", {"reset": ["shop", "mail"], "fleet": fleet})

    assert run_command(["upstreams", "reset-stats", "shop"]) == 0
    assert capsys.readouterr().out.startswith(f"begun anew: shop{more}")
    assert run_command(["upstreams", "reset-stats", "--all"]) == 0
    assert capsys.readouterr().out.startswith(f"begun anew: shop, mail{more}")
    assert run_command(["upstreams", "reset-stats"]) == 2


@pytest.mark.parametrize(
    ("given", "asked", "said"),
    [
        (["drain", "shop", "a:1"], "endpoints/a%3A1?state=drain", "shop a:1: drained"),
        (
            ["drain", "shop", "a:1", "--reason", "new disk"],
            "endpoints/a%3A1?state=drain&reason=new+disk",
            "shop a:1: drained",
        ),
        (["activate", "shop", "a:1"], "endpoints/a%3A1?state=active", "shop a:1: active"),
        (
            ["breaker", "shop", "a:1", "open", "--reason", "moving", "--ttl", "10m"],
            "endpoints/a%3A1?breaker=open&reason=moving&ttl=10m",
            "shop a:1: circuit breaker held open for 10m",
        ),
        (
            ["breaker", "shop", "a:1", "auto"],
            "endpoints/a%3A1?breaker=auto",
            "shop a:1: circuit breaker auto",
        ),
    ],
)
@pytest.mark.parametrize("fleet", [True, False])
def test_what_is_done_is_said_and_whether_the_fleet_was_told(
    given: list[str],
    asked: str,
    said: str,
    fleet: bool,
    admin: ScriptedAdmin,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers(admin, f"PUT /api/v1/upstreams/shop/{asked}", {"fleet": fleet, "warning": ""})

    assert run_command(["upstreams", *given]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(said)
    assert ("at this instance" in out, err) == (not fleet, "")
    assert run_command(["upstreams", *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"fleet": fleet, "warning": ""}


def test_a_warning_is_shown_where_no_pipe_takes_it_for_the_answer(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    warned = {"fleet": True, "warning": "no endpoint is left\x1b[2J"}
    answers(admin, "PUT /api/v1/upstreams/shop/endpoints/a%3A1?state=drain", warned)

    assert run_command(["upstreams", "drain", "shop", "a:1"]) == 0
    out, err = capsys.readouterr()
    assert out == "shop a:1: drained\n"
    assert err.startswith("warning: no endpoint is left")
    assert "\x1b" not in err

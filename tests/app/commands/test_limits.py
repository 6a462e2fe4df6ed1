"""`silence limits`, asking a scripted admin API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from silence_gateway.app.cli import run_command
from silence_gateway.app.commands.limits import key_path
from silence_gateway.app.limit_tables import WINDOWS

if TYPE_CHECKING:
    from tests.app.conftest import ScriptedAdmin

LIMITS = "/api/v1/limits"
LIMIT: dict[str, Any] = {
    "name": "login", "rate": "5/m", "key": ["client_ip"], "match": {"any": True}, "counted_by": "fleet",
    "allowed": 7, "denied": 3, "shadow_denied": 0, "near": 1, "since_us": 1, "top": [], "windows": {},
}  # fmt: skip
PAIR = {**LIMIT, "name": "pair", "key": ["client_ip", "header:x-tenant"]}


@pytest.fixture(autouse=True)
def known(admin: ScriptedAdmin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two limits, of one and of two parts; the admin API is found by the environment."""
    monkeypatch.setenv("SILENCE_ADMIN", admin.url)
    for limit in (LIMIT, PAIR):
        answer(admin, f"GET {LIMITS}/{limit['name']}", limit)


def answer(admin: ScriptedAdmin, asked: str, body: Any, status: int = 200) -> None:
    admin.answers[asked] = (status, json.dumps(body).encode())


def asked(admin: ScriptedAdmin) -> list[str]:
    return [line for line, _ in admin.asked]


@pytest.mark.parametrize("words", [["limits"], ["limits", "list"]])
def test_a_list_is_a_table_or_json(
    words: list[str], admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(admin, f"GET {LIMITS}", [LIMIT])

    assert run_command(words) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:3] == ["LIMIT", "RATE", "BY"]
    assert run_command([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [LIMIT]


@pytest.mark.parametrize(
    "words",
    [
        ["limits", "--admin", "URL", "--token", "t0ken", "--json", "list"],
        ["limits", "list", "--admin", "URL", "--token", "t0ken", "--json"],
        ["limits", "--admin", "http://127.0.0.1:1", "list", "--admin", "URL", "--token", "t0ken", "--json"],
    ],
)
def test_options_may_stand_before_or_after_the_command_and_the_nearest_one_counts(
    words: list[str],
    admin: ScriptedAdmin,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SILENCE_ADMIN", "http://127.0.0.1:1")
    monkeypatch.setenv("SILENCE_ADMIN_TOKEN", "another")
    answer(admin, f"GET {LIMITS}", [LIMIT])

    assert run_command([admin.url if word == "URL" else word for word in words]) == 0
    assert admin.asked == [(f"GET {LIMITS}", "Bearer t0ken")]
    assert json.loads(capsys.readouterr().out) == [LIMIT]


def test_a_key_is_shown_with_whatever_is_known_of_it(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"name": "login", "key": "192.0.2.1", "limit": 5, "remaining": 2, "reset_s": 41.2}
    verdict = {"verdict": "one more use passes", "allowed": True, "rate": "5/m", "colour": "red"}
    answer(admin, f"GET {LIMITS}/login/keys/192.0.2.1", {**state, **verdict})

    assert run_command(["limits", "show", "login", "192.0.2.1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "one more use passes",
        "",
        "LIMIT  RATE  KEY        LEFT  OF  FULL AGAIN IN  PASSES",
        "login  5/m   192.0.2.1  2     5   42s            yes",
        "colour: red",
    ]


def test_of_an_older_gateway_a_key_is_shown_without_a_verdict(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"name": "login", "key": "k", "limit": 5, "remaining": 2, "reset_s": 41.2}
    answer(admin, f"GET {LIMITS}/login/keys/k", state)

    assert run_command(["limits", "show", "login", "k"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "LIMIT  RATE  KEY  LEFT  OF  FULL AGAIN IN  PASSES",
        "login  -     k    2     5   42s            -",
    ]


def test_a_cost_is_asked_about_with_a_key_alone(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"name": "login", "key": "k", "verdict": "a use that costs 4 passes"}
    answer(admin, f"GET {LIMITS}/login/keys/k?cost=4", body)

    assert run_command(["limits", "show", "login", "k", "--cost", "4"]) == 0
    assert capsys.readouterr().out.startswith("a use that costs 4 passes\n")
    assert run_command(["limits", "show", "login", "--cost", "4"]) == 2
    assert "--cost is about one key" in capsys.readouterr().err


def test_without_a_key_a_limit_is_shown_with_its_windows(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    window = {
        "allowed": 4, "denied": 2, "shadow_denied": 0, "near": 1, "unique_clients": 3,
        "top": [{"key": "192.0.2.1", "requests": 5}], "top_denied": [{"key": "192.0.2.1", "denied": 2}],
    }  # fmt: skip
    answer(admin, f"GET {LIMITS}/login", {**LIMIT, "windows": dict.fromkeys(WINDOWS, window)})

    assert run_command(["limits", "show", "login"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "login: 5/m by client_ip, every request"
    assert "in the last minute  4        2       0          1     3" in lines
    assert lines[-2:] == ["KEY        DENIED", "192.0.2.1  2"]
    assert asked(admin) == [f"GET {LIMITS}/login"]


@pytest.mark.parametrize(
    ("name", "key", "path"),
    [
        ("login", "192.0.2.1", "192.0.2.1"),
        ("login", "a b/c,d%41ü", "a%20b%2Fc%2Cd%2541%C3%BC"),
        ("pair", "192.0.2.1,a%2Cb", "192.0.2.1,a%2Cb"),
        ("pair", "2001:db8::/64,x y", "2001%3Adb8%3A%3A%2F64,x%20y"),
    ],
)
def test_keys_are_written_as_the_admin_api_writes_them(
    name: str, key: str, path: str, admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key of one part is its plain value, whatever is in it; parts of several come encoded."""
    body = {"name": name, "key": key, "reset": True}
    answer(admin, f"DELETE {LIMITS}/{name}/keys/{path}", body)

    assert run_command(["limits", "reset", name, key]) == 0
    assert capsys.readouterr().out == f"{name}, {key}: forgotten\n"
    assert run_command(["limits", "reset", name, key, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == body


def test_a_key_that_had_spent_nothing_says_so(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(admin, f"DELETE {LIMITS}/login/keys/k", {"name": "login", "key": "k", "reset": False})

    assert run_command(["limits", "reset", "login", "k"]) == 0
    assert capsys.readouterr().out == "login, k: nothing to forget\n"


def test_uses_are_granted(admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    body = {"name": "pair", "key": "10.0.0.1,x", "given_back": 12}
    answer(admin, f"POST {LIMITS}/pair/keys/10.0.0.1,x/grant?uses=50", body)

    assert run_command(["limits", "grant", "pair", "10.0.0.1,x", "50"]) == 0
    assert capsys.readouterr().out == "pair, 10.0.0.1,x: 12 of what it had spent given back\n"


@pytest.mark.parametrize(
    ("given", "query", "held", "said"),
    [
        (
            ["--rate", "5/s", "--burst", "9", "--ttl", "10m", "--reason", "fair"],
            "rate=5%2Fs&burst=9&ttl=10m&reason=fair",
            {"rate": "5/s", "burst": 9, "reason": "fair", "by": "x", "added_us": 5, "until_us": 600_000_005},
            "rate 5/s, burst 9, for 10m",
        ),
        (["--blocked"], "blocked=true", {"blocked": True, "added_us": 5}, "blocked"),
        (["--unlimited"], "unlimited=true", {"unlimited": True}, "unlimited"),
        (["--max", "7"], "max=7", {"max": 7}, "max 7"),
    ],
)
def test_something_else_holds_for_a_key(
    admin: ScriptedAdmin,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    query: str,
    held: dict[str, Any],
    said: str,
) -> None:
    body = {"name": "login", "key": "k", "override": held}
    answer(admin, f"PUT {LIMITS}/login/keys/k?{query}", body)

    assert run_command(["limits", "override", "login", "k", *given]) == 0
    assert capsys.readouterr().out == f"login, k: {said}\n"


def test_what_holds_for_a_key_is_taken_back(admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]) -> None:
    path = f"DELETE {LIMITS}/login/keys/k/override"
    answer(admin, path, {"name": "login", "key": "k", "removed": True})
    assert run_command(["limits", "override", "login", "k", "--remove"]) == 0
    assert capsys.readouterr().out == "login, k: as for all others again\n"

    answer(admin, path, {"error": "nothing special holds for this key"}, 404)
    assert run_command(["limits", "override", "login", "k", "--remove"]) == 1
    assert "nothing special" in capsys.readouterr().err
    assert run_command(["limits", "override", "login", "k", "--remove", "--blocked"]) != 0


@pytest.mark.parametrize(
    ("given", "query", "first"),
    [
        ([], "window=1h&by=requests&limit=20", "KEY  REQUESTS"),
        (["--window", "1m", "--by", "denied", "--limit", "3"], "window=1m&by=denied&limit=3", "KEY  DENIED"),
    ],
)
def test_the_top_of_a_limit(
    given: list[str],
    query: str,
    first: str,
    admin: ScriptedAdmin,
    capsys: pytest.CaptureFixture[str],
) -> None:
    by, window = query.split("by=")[1].partition("&")[0], query[7:9]
    body = {
        "name": "login", "window": window, "by": by, "counted_by": "fleet", "unique_clients": 41,
        "top": [{"key": "k", by: 7}],
    }  # fmt: skip
    answer(admin, f"GET {LIMITS}/top?name=login&{query}", body)

    assert run_command(["limits", "top", "login", *given]) == 0
    assert capsys.readouterr().out.splitlines() == [
        first,
        "k    7",
        f"in {WINDOWS[window]}; clients, about: 41",
    ]


@pytest.mark.parametrize(("given", "path"), [(["login"], "/login/stats"), (["--all"], "/stats")])
def test_statistics_are_reset(
    given: list[str], path: str, admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(admin, f"DELETE {LIMITS}{path}", {"reset": ["login", "other"]})

    assert run_command(["limits", "reset-stats", *given]) == 0
    assert capsys.readouterr().out == "begun anew: login, other\n"


def test_a_request_is_explained_by_the_running_gateway(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {
        "verdict": "refused by login; retry after 60 s",
        "steps": [{"what": "client", "decided": "10.0.0.1", "why": "the peer"}],
        "limits": [
            {
                "name": "login", "rate": "5/m", "by": ["client_ip"], "key": "10.0.0.1", "limit": 5,
                "remaining": 0, "reset_s": 60.0, "mode": "enforce", "why": "any request", "hidden": False,
                "cost": 1, "allowed": False, "outcome": "refuses: costs 1, 0 left",
            }
        ],
    }  # fmt: skip
    query = "method=POST&path=%2Fv1%2Fa%3Fb%3D1&ip=10.0.0.1&header=X-A%3A+1&header=X-B%3A2"
    answer(admin, f"GET {LIMITS}/explain?{query}", body)
    given = ["post", "/v1/a?b=1", "--ip", "10.0.0.1", "--header", "X-A: 1", "--header", "X-B:2"]

    assert run_command(["limits", "explain", *given]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "refused by login; retry after 60 s",
        "",
        "STEP    DECIDED   WHY",
        "client  10.0.0.1  the peer",
        "",
        "LIMIT  RATE  BY         KEY       LEFT  OF  FULL AGAIN IN  PASSES  COUNTS",
        "login  5/m   client_ip  10.0.0.1  0     5   1m             no      any request",
        "",
        "login refuses: costs 1, 0 left",
    ]
    assert run_command(["limits", "explain", *given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == body


# -- what goes wrong, and who must act ----------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["show", "nope"],
        ["show", "nope", "k"],
        ["reset", "nope", "k"],
        ["grant", "nope", "k", "1"],
        ["top", "nope"],
        ["reset-stats", "nope"],
    ],
)
def test_a_limit_that_does_not_exist_is_the_users_mistake(
    words: list[str], admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = {"error": "there is no limit 'nope'; there are: login"}
    for line in ("GET /nope", "GET /top?name=nope&window=1h&by=requests&limit=20", "DELETE /nope/stats"):
        method, path = line.split()
        answer(admin, f"{method} {LIMITS}{path}", refusal, 404)

    assert run_command(["limits", *words]) == 1
    assert capsys.readouterr().err == "error: there is no limit 'nope'; there are: login\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "pair", "192.0.2.1"], "limit pair counts by client_ip, header:x-tenant: write one value"),
        (["show", "pair", "a,b,c"], "write one value for each, joined by ','"),
        (["show", "login", ""], "an empty name or key cannot be asked for"),
        (["explain", "GET", "nope"], "path begins with '/'"),
    ],
)
def test_what_cannot_be_a_key_or_a_path_is_the_users_mistake(
    words: list[str], said: str, admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    explain = f"GET {LIMITS}/explain?method=GET&path=nope&ip=127.0.0.1"
    answer(admin, explain, {"error": "path begins with '/', which 'nope' does not"}, 400)

    assert run_command(["limits", *words]) == 1
    assert said in capsys.readouterr().err


def test_uses_that_the_gateway_refuses_are_the_users_mistake(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(admin, f"POST {LIMITS}/login/keys/k/grant?uses=9", {"error": "at most 5"}, 400)

    assert run_command(["limits", "grant", "login", "k", "9"]) == 1
    assert capsys.readouterr().err == "error: at most 5\n"


def test_a_gateway_that_cannot_do_it_is_a_failure(
    admin: ScriptedAdmin, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit is there, and nothing is served at the path: an older gateway."""
    assert run_command(["limits", "grant", "login", "k", "9"]) == 3
    assert "answers 404: nothing here" in capsys.readouterr().err
    answer(admin, f"DELETE {LIMITS}/login/stats", {"error": "nothing was reset: away"}, 503)
    assert run_command(["limits", "reset-stats", "login"]) == 3
    assert "nothing was reset" in capsys.readouterr().err


@pytest.mark.parametrize("limit", [{}, {"key": "client_ip"}, {"key": []}, {"key": ["client_ip"]}])
def test_a_limit_of_one_part_or_of_an_unknown_shape_has_plain_keys(limit: dict[str, Any]) -> None:
    assert key_path(limit, "a", "x,y") == "/a/keys/x%2Cy"

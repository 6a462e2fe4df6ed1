"""What a configuration would serve, asked of a real gRPC server by reflection."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from silence_gateway.app.cli import run_command
from silence_gateway.app.routes_table import limits_on
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import Rate
from silence_gateway.limiting.limit_spec import LimitSpec


@pytest.fixture
def cafe() -> Iterator[str]:
    with subprocess.Popen(
        [sys.executable, "-m", "silence_gateway.app.sample.server", "one"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()


@pytest.mark.system
def test_a_real_server_is_asked_by_reflection(
    cafe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(f"upstreams: {{cafe: {{endpoints: '{cafe}'}}}}\n")

    assert run_command(["routes", "-c", str(path)]) == 0
    printed = capsys.readouterr()
    assert "GET     /v1/drinks/{name}" in printed.out
    assert printed.err == ""


def spec(path: str, methods: tuple[str, ...] = ()) -> LimitSpec:
    rule = LimitRule(name="l", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 1_000_000))
    return LimitSpec(rule=rule, path=path, methods=methods)


@pytest.mark.parametrize(
    ("limit", "route", "names"),
    [
        ("/v1/a", "/v1/a", ("l",)),
        ("/v1/*", "/v1/{id}", ("l",)),
        ("/v1/**", "/v1/{id}/parts/{part}", ("l",)),
        ("/**", "/v1/a:verb", ("l",)),
        ("/v1/a", "/v1/{id}", ("l?",)),
        ("/v1/a/b", "/v1/{rest=**}", ("l?",)),
        ("/v1/*", "/v1/a/{rest=**}", ("l?",)),
        ("/v1/b", "/v1/a", ()),
        ("/v1/a/b", "/v1/a", ()),
        ("/v1/a", "/v1/a/b", ()),
        ("/v1/*:go", "/v1/{id}", ()),
        ("/v1/*:go", "/v1/{id}:go", ("l",)),
    ],
)
def test_a_limit_counts_all_some_or_none_of_a_routes_paths(
    limit: str, route: str, names: tuple[str, ...]
) -> None:
    assert limits_on([spec(limit)], "GET", route, "p.S/M") == names


def test_a_limit_of_other_methods_counts_nothing() -> None:
    assert limits_on([spec("/v1/**", ("POST",))], "GET", "/v1/a", "p.S/M") == ()
    assert limits_on([spec("/v1/**", ("GET",))], "HEAD", "/v1/a", "p.S/M") == ("l",)

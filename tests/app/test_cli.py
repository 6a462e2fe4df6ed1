"""The `silence` command: names, help, exit codes, and no traceback for anybody."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner

from silence_gateway.app import cli
from silence_gateway.app.cli import run_command
from silence_gateway.errors import ConfigError, StoreUnavailable

GOOD = "upstreams: {shop: {endpoints: [127.0.0.1:9001]}}\n"
SILENCE = str(Path(sys.executable).with_name("silence"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(GOOD)
    return path


def raises(error: BaseException) -> Callable[..., NoReturn]:
    def main(*_: object, **__: object) -> NoReturn:
        raise error

    return main


def every_command(group: click.Group = cli.cli) -> Iterator[tuple[str, click.Command]]:
    """Return every command with its name, those of groups behind the group's."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in every_command(command))


ALL_COMMANDS = dict(every_command())


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_command_has_help_with_defaults_and_environment_names(name: str) -> None:
    result = CliRunner().invoke(cli.cli, [*name.split(), "--help"])

    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: cli {name}")
    text = " ".join(result.output.split())
    command = ALL_COMMANDS[name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            if not parameter.is_flag:
                assert "default:" in text
            assert re.fullmatch(r"SILENCE_[A-Z_]+", str(parameter.envvar)), parameter.name
            assert f"env var: {parameter.envvar}" in text


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_no_two_options_of_a_command_have_one_environment_name(name: str) -> None:
    named = [str(one.envvar) for one in ALL_COMMANDS[name].params if isinstance(one, click.Option)]

    assert len(set(named)) == len(named)


@pytest.mark.parametrize(("given", "hint"), [("gateway.yaml", True), ("x.yml", True), ("now", False)])
def test_a_file_named_as_for_check_is_told_how_others_name_it(
    given: str, hint: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command(["run", given]) == 2
    assert ("named with -c" in capsys.readouterr().err) is hint


def test_the_commands_of_the_contract_are_there() -> None:
    output = CliRunner().invoke(cli.cli, ["--help"]).output

    assert {name for name in ALL_COMMANDS if name.startswith("limits ")} == {
        f"limits {name}"
        for name in ["list", "show", "top", "reset", "reset-stats", "grant", "override", "explain"]
    }
    promised = "run demo check schema routes explain limits sessions upstreams nodes drain healthcheck"
    for name in promised.split():
        assert re.search(rf"^  {name} ", output, re.MULTILINE), name


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["rnu"], "there is no command 'rnu' (did you mean 'run'?)"),
        (["check", "--nope"], "No such option"),
        (["run", "--workers", "0"], "0 is not in the range"),
        (["run", "--workers", "many"], "is not a valid integer"),
        (["limits", "--timeout", "5"], "'5' is not a duration"),
        (["limits", "shwo"], "No such command 'shwo'"),
        (["limits", "top", "a", "--window", "2h"], "'2h' is not one of '1m', '1h'"),
        (["limits", "grant", "a", "k", "0"], "0 is not in the range"),
        (["limits", "reset-stats"], "give the NAME of a limit, or --all"),
        (["limits", "reset-stats", "a", "--all"], "give the NAME of a limit, or --all"),
        (["demo", "--port", "7", "--admin-port", "7"], "--port and --admin-port are both 7: choose two"),
        (["explain", "FETCH", "/x"], "'FETCH' is not one of"),
        (["explain", "GET", "x"], "is not a path: begin it with '/'"),
        (["explain", "GET", "/x", "--ip", "here"], "'here' is not an address"),
        (["explain", "GET", "/x", "--header", "nope"], "is not a header: write NAME:VALUE"),
    ],
)
def test_a_wrong_command_line_exits_2(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 2
    assert part in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (ConfigError(["g.yaml:1:2: one", "g.yaml:2:2: two"]), 1, "g.yaml:1:2: one\ng.yaml:2:2: two\n"),
        (StoreUnavailable("away"), 3, "error: away\n"),
        (OSError(98, "Address already in use"), 3, "error: Address already in use\n"),
        (FileNotFoundError(2, "No such file", "x.pem"), 3, "error: No such file: x.pem\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (click.Abort(), 130, "interrupted\n"),
    ],
)
def test_each_failure_has_its_exit_code_and_its_words(
    error: BaseException,
    code: int,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli.cli, "invoke", raises(error))
    monkeypatch.delenv("SILENCE_DEBUG", raising=False)

    assert run_command(["schema"]) == code
    assert capsys.readouterr().err == shown


def test_a_mistake_of_ours_shows_its_traceback_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.cli, "invoke", raises(ZeroDivisionError("oops")))

    monkeypatch.delenv("SILENCE_DEBUG", raising=False)
    assert run_command(["schema"]) == 3
    quiet = capsys.readouterr().err
    monkeypatch.setenv("SILENCE_DEBUG", "1")
    assert run_command(["schema"]) == 3
    loud = capsys.readouterr().err

    assert "internal error: ZeroDivisionError: oops" in quiet
    assert "Traceback" not in quiet
    assert "Traceback" in loud


def test_run_hands_over_the_checked_config_and_the_workers(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[str, int]] = []

    def serve(loaded: object, workers: int) -> int:
        calls.append((type(loaded).__name__, workers))
        return 0

    module = ModuleType("silence_gateway.app.run")
    module.run = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "silence_gateway.app.run", module)

    assert run_command(["run", "-c", str(config)]) == 0
    monkeypatch.setenv("SILENCE_CONFIG", str(config))
    assert run_command(["run", "--workers", "3"]) == 0
    monkeypatch.setenv("SILENCE_WORKERS", "4")
    assert run_command(["run"]) == 0
    assert run_command(["run", "--check"]) == 0

    assert calls == [("LoadedConfig", 1), ("LoadedConfig", 3), ("LoadedConfig", 4)]
    assert "gateway.yaml: ok (digest " in capsys.readouterr().out


def test_demo_hands_over_its_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int, int]] = []

    def show(port: int, admin_port: int, workers: int) -> int:
        calls.append((port, admin_port, workers))
        return 0

    module = ModuleType("silence_gateway.app.demo")
    module.demo = show  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "silence_gateway.app.demo", module)

    assert run_command(["demo"]) == 0
    assert run_command(["demo", "--port", "0", "--admin-port", "0", "--workers", "2"]) == 0
    assert calls == [(8080, 9900, 1), (0, 0, 2)]


def silence(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SILENCE_")}
    return subprocess.run(
        [SILENCE, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=clean | environment,
        check=False,
    )


@pytest.mark.system
def test_the_real_script_checks_files_and_exits_by_the_book(config: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("workrs: 1\nserver: {drain: soon}\n" + GOOD)

    ok = silence("check", str(config))
    wrong = silence("check", str(bad))
    absent = silence("run", "-c", str(tmp_path / "none.yaml"))

    assert (ok.returncode, ok.stderr) == (0, "")
    assert wrong.returncode == 1
    assert wrong.stdout.splitlines() == [
        f"{bad}:1:1: unknown key 'workrs' (did you mean 'workers'?)",
        f"{bad}:2:17: server.drain: 'soon' is not a duration: write 250ms, 5s, 1m, 24h or 7d",
    ]
    assert wrong.stderr == "2 problems\n"
    assert absent.returncode == 1
    assert "No such file or directory" in absent.stderr
    assert silence("--version").stdout.startswith("silence-gateway ")
    assert silence("nonsense").returncode == 2


@pytest.mark.system
def test_a_reader_that_leaves_early_is_no_failure() -> None:
    process = subprocess.Popen([SILENCE, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    try:
        assert process.wait(30) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.stderr.close()


@pytest.mark.system
def test_ctrl_c_ends_without_a_traceback(tmp_path: Path) -> None:
    """The command waits for an admin API that never answers; Ctrl-C comes once it has asked."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        process = subprocess.Popen(
            [SILENCE, "nodes", "--admin", f"http://127.0.0.1:{server.getsockname()[1]}", "--timeout", "1m"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            peer, _ = server.accept()
            with peer:
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said == b"interrupted\n"

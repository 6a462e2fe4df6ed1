"""
The README, walked through as a newcomer would: its files, its commands, its requests, its programs.

Only the ports are others: a test may not count on 8080 being free.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scripts import docs
from tests.system.yard import SILENCE, Cafe, Process, Yard, ask, free_port, until

import silence_gateway
from silence_gateway.testing.valkey import ValkeyServer

pytestmark = pytest.mark.system

README = (docs.ROOT / "README.md").read_text()
EXAMPLES = docs.ROOT / "examples"
NODE = docs.ROOT / "tests" / "node"
PATIENCE_S = 20.0
CAFE_COMMAND = "python -m silence_gateway.app.sample.server one --port 9001"


def blocks(language: str) -> list[str]:
    return [text for found, text in docs.FENCE.findall(README) if found == language]


@dataclass
class Newcomer:
    """
    Follows the README in a folder of their own.

    Attributes:
        ports: What to write in place of each port in the README.
    """

    yard: Yard
    ports: dict[str, int] = field(
        default_factory=lambda: {port: free_port() for port in ("8080", "9001", "9900")}
    )

    def here(self, text: str) -> str:
        """Return *text* with this test's ports."""
        return re.sub(
            r"127\.0\.0\.1:(8080|9001|9900)", lambda found: f"127.0.0.1:{self.ports[found[1]]}", text
        )

    def serve(self, config: str) -> Process:
        """Write gateway.yaml and start `silence run` beside it, as the README says."""
        (self.yard.folder / "gateway.yaml").write_text(
            self.here(config + "admin: {listen: 127.0.0.1:9900}\n")
        )
        log = self.yard.folder / "gateway.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [*SILENCE, "run"], cwd=self.yard.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        process = Process(popen, log)
        self.yard.started.append(process)

        def ready() -> bool:
            with contextlib.suppress(OSError):
                return ask(self.ports["9900"], "GET", "/readyz").status == 200
            return False

        until(ready, lambda: f"the gateway is ready; it said:\n{process.output()}", PATIENCE_S)
        return process

    def type(self, command: str) -> str:
        """Run one line of a shell block and return what it prints."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", self.here(command)],
            cwd=self.yard.folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    yard = Yard(tmp_path)
    try:
        yield Newcomer(yard)
    finally:
        yard.end()


def commands() -> list[tuple[str, str]]:
    """Return every command of the README with `curl` in it, and what it says that it prints."""
    found: list[tuple[str, str]] = []
    for block in blocks("sh"):
        for line in block.splitlines():
            if line.startswith("# ") and found:
                found[-1] = (found[-1][0], line.removeprefix("# "))
            elif "curl" in line:
                found.append((line, ""))
    return found


def test_the_whole_readme_walked_from_the_first_request_to_the_first_message(newcomer: Newcomer) -> None:
    """One configuration, grown as the README grows it; every command answers what is written under it."""
    if shutil.which("curl") is None:
        pytest.skip("no curl: the README's requests are not tried")
    assert CAFE_COMMAND in README
    newcomer.yard.cafe("one", newcomer.ports["9001"])
    first, limits, realtime, _store = blocks("yaml")
    newcomer.serve(first + limits + realtime)

    assert "ok" in newcomer.type("silence check")
    assert "PlaceOrder" in newcomer.type("silence routes")
    tried = commands()
    for command, answer in tried:
        assert newcomer.type(command) == answer, command
    assert len(tried) == 4
    assert all(answer for _, answer in tried)


def test_the_file_with_every_section_of_the_readme_has_no_mistake(newcomer: Newcomer) -> None:
    (newcomer.yard.folder / "gateway.yaml").write_text("".join(blocks("yaml")))

    assert newcomer.type("silence check").startswith("gateway.yaml: ok")


def test_every_program_in_the_readme_is_a_file_of_the_examples() -> None:
    shown = set(re.findall(r"<!-- file: (\S+) -->", README))

    assert len(shown) == len(blocks("python")) + len(blocks("js"))
    for path in shown:
        assert (docs.ROOT / path).read_text() in README


def test_examples_import_the_package_by_its_root_alone() -> None:
    for file in EXAMPLES.glob("*.py"):
        for line in ast.walk(ast.parse(file.read_text())):
            if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("silence_gateway"):
                assert line.module == "silence_gateway"
                assert {each.name for each in line.names} <= set(silence_gateway.__all__)
            elif isinstance(line, ast.Import):
                assert not any(each.name.startswith("silence_gateway") for each in line.names)


# The programs ---------------------------------------------------------------------------------


def run_example(name: str, *arguments: str, path: Path | None = None) -> list[str]:
    """Run an example to its end and return the lines that it printed."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, "PYTHONPATH": str(path or "")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def start_example(yard: Yard, command: list[str], **options: object) -> Process:
    """Start a program that stays, with its output in a file."""
    log = yard.folder / f"example-{len(yard.started)}.log"
    with log.open("wb") as out:
        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options)  # type: ignore[call-overload]
    process = Process(popen, log)
    yard.started.append(process)
    return process


def test_the_limiter_in_one_process() -> None:
    lines = run_example("rate_limiter.py")

    assert lines[0] == "welcome, 9 of 10 left"
    assert lines[9] == "welcome, 0 of 10 left"
    assert lines[10].startswith("try again in ")


def test_two_programs_with_one_limiter_on_a_real_server() -> None:
    with ValkeyServer() as server:
        first, second = run_example("rate_limiter.py", server.url), run_example("rate_limiter.py", server.url)

    assert len(first) == 11
    assert second == [line for line in second if line.startswith("try again in ")]


def test_places_and_costs_in_one_process_and_on_a_real_server() -> None:
    with ValkeyServer() as server:
        alone, shared = run_example("concurrency.py"), run_example("concurrency.py", server.url)

    for lines in (alone, shared):
        assert [line.partition(" begins")[0] for line in lines[:6]] == [f"report {n}" for n in range(6)]
        assert [line.partition(", ")[2] for line in lines[:3]] == ["2 more may", "1 more may", "0 more may"]
        assert lines[6:] == ["three at once, and no more", "520 of 1000 tokens are left"]


def stubs(folder: Path) -> Path:
    """Make stubs of the sample service by the commands that examples/README.md has for that."""
    fence = docs.FENCE.search((EXAMPLES / "README.md").read_text())
    assert fence is not None
    install, *commands = fence[2].splitlines()
    assert install.startswith("pip install ")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["sh", "-ec", "\n".join(commands)], cwd=folder, env=os.environ | {"PATH": path}, check=True
    )
    return folder


def test_the_pool_under_generated_stubs_goes_round_a_dead_address(newcomer: Newcomer, tmp_path: Path) -> None:
    cafe: Cafe = newcomer.yard.cafe()

    lines = run_example("grpc_upstream.py", cafe.address, f"127.0.0.1:{free_port()}", path=stubs(tmp_path))

    assert lines[0] == 'name: "latte"'


def test_a_program_in_the_fleet_hears_what_it_publishes() -> None:
    with ValkeyServer() as server:
        lines = run_example("session_hub.py", server.url)

    assert "{'tick': 2}" in lines


def test_the_websocket_server_and_the_python_client(newcomer: Newcomer) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = start_example(newcomer.yard, [sys.executable, str(EXAMPLES / "realtime_server.py"), address])
    until(lambda: "clients connect" in server.output(), server.output, PATIENCE_S)
    url = f"ws://{address}/connection/websocket"
    client = start_example(newcomer.yard, [sys.executable, str(EXAMPLES / "chat_client.py"), url])

    until(lambda: "hello from Python" in client.output(), client.output, PATIENCE_S)


@pytest.mark.node
def test_the_javascript_client_and_the_gateway_of_the_readme(newcomer: Newcomer) -> None:
    """Node before 22 has no WebSocket of its own, as browsers have; the one of the package ws stands in."""
    if shutil.which("node") is None or not (NODE / "node_modules" / "centrifuge").is_dir():
        pytest.skip("no Node.js, or tests/node is not installed: the README's JavaScript is not tried")
    newcomer.serve(blocks("yaml")[2] + "listen: 127.0.0.1:8080\n")
    # Modules are looked for beside the program, so it runs as a copy beside links to them.
    (newcomer.yard.folder / "node_modules").symlink_to(NODE / "node_modules")
    program = newcomer.yard.folder / "chat_client.mjs"
    program.write_text(newcomer.here((EXAMPLES / "chat_client.mjs").read_text()))
    socket = newcomer.yard.folder / "socket.mjs"
    socket.write_text('import WebSocket from "ws";\nglobalThis.WebSocket ??= WebSocket;\n')

    client = start_example(newcomer.yard, ["node", "--import", str(socket), str(program)])

    until(lambda: "hello from JavaScript" in client.output(), client.output, PATIENCE_S)

"""The programs of docs/reference/grpc-channel.md, run against the sample service."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from scripts import docs
from tests.docs.test_readme import run_example, stubs
from tests.system.yard import Cafe, Yard

from silence_gateway import Channel

pytestmark = pytest.mark.system

PAGE = (docs.ROOT / "docs" / "reference" / "grpc-channel.md").read_text()


@pytest.fixture
def cafe(tmp_path: Path) -> Iterator[Cafe]:
    yard = Yard(tmp_path)
    try:
        yield yard.cafe()
    finally:
        yard.end()


def test_every_program_of_the_page_is_run_here() -> None:
    assert re.findall(r"<!-- file: examples/(\S+) -->", PAGE) == [
        "grpc_like_grpcio.py",
        "grpc_channel.py",
        "grpc_typed_client.py",
    ]


def test_a_program_written_for_grpcio(cafe: Cafe, tmp_path: Path) -> None:
    assert run_example("grpc_like_grpcio.py", cafe.address, path=stubs(tmp_path)) == ["no such drink"]


def test_a_channel_with_an_interceptor_and_errors_by_status(cafe: Cafe, tmp_path: Path) -> None:
    lines = run_example("grpc_channel.py", cafe.address, path=stubs(tmp_path))

    assert lines == [
        "latte",
        "1",
        "2",
        "secret",
        "NOT_FOUND no such drink",
        f"NOT_FOUND: no such drink (silence.cafe.v1.Cafe/Fail at {cafe.address})",
    ]


def test_a_client_without_stubs_does_without_grpcio(cafe: Cafe, tmp_path: Path) -> None:
    lines = run_example("grpc_typed_client.py", cafe.address, path=stubs(tmp_path))

    assert lines == ["latte", "[1, 2]", "False"]


def test_the_three_lines_at_the_top(cafe: Cafe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = docs.FENCE.search(PAGE)
    assert first is not None
    monkeypatch.syspath_prepend(stubs(tmp_path))
    names = {**vars(import_module("cafe_pb2")), **vars(import_module("cafe_pb2_grpc")), "Channel": Channel}
    here = first[2].replace("127.0.0.1:9001", cafe.address)
    program = "async def main():\n" + "".join(f"    {line}\n" for line in here.splitlines())
    exec(program + "    return drink\n", names)

    drink = asyncio.run(names["main"]())

    assert drink.name == "latte"
    for name in ("cafe_pb2", "cafe_pb2_grpc"):
        del sys.modules[name]

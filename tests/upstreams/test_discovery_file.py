"""Endpoints from a file: read, followed, and kept when the file makes no sense."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.upstreams.pool_bench import run

from silence_gateway.errors import ConfigError
from silence_gateway.events import Event
from silence_gateway.file_watch import FileUnusable
from silence_gateway.testing.clock import FakeClock
from silence_gateway.upstreams.discovery_file import FileSource, read_endpoints
from silence_gateway.upstreams.settings import EndpointSettings

HERE = Path("endpoints")


def test_a_line_is_an_address_and_what_is_special_about_it() -> None:
    text = b"# ours\n10.0.0.1:9001\n\n10.0.0.2:9001 weight=2  # big\n[::1]:9 priority=1 weight=3 zone=eu-1\n"

    assert read_endpoints(HERE, text) == (
        EndpointSettings(address="10.0.0.1:9001"),
        EndpointSettings(address="10.0.0.2:9001", weight=2),
        EndpointSettings(address="[::1]:9", weight=3, priority=1, zone="eu-1"),
    )


def test_the_mark_that_some_editors_begin_a_file_with_is_no_part_of_an_address() -> None:
    assert read_endpoints(HERE, b"\xef\xbb\xbf10.0.0.1:9001\r\n") == (
        EndpointSettings(address="10.0.0.1:9001"),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "names no endpoint"),
        (b"# nobody\n", "names no endpoint"),
        (b"nowhere\n", "endpoints:1: .*host:port"),
        (b"caf\xc3\xa9:1\n", "endpoints:1: .*host:port"),
        (b"::1:9001\n", "endpoints:1: .*host:port"),
        (b"a:" + b"9" * 5000, "endpoints:1: .*host:port"),
        (b"a:1\na:1\n", "endpoints:2: a:1 is here twice"),
        (b"a:1 weight=0", "weight must be"),
        (b"a:1 zone=-b", "neither weight"),
        (b"a:1 weight=-1", "neither weight"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(text: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_endpoints(HERE, text)


@given(st.binary(max_size=200))
def test_no_file_breaks_it(data: bytes) -> None:
    try:
        found = read_endpoints(HERE, data)
    except ConfigError:
        return
    assert found


def test_a_file_is_followed_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "endpoints"
    path.write_text("a:1\n")

    async def scenario() -> None:
        clock, events = FakeClock(), list[Event]()
        heard: list[list[str]] = []
        source = FileSource(path, clock=clock, observer=events.append)

        async def looked(times: int) -> None:
            for _ in range(times):
                await source._watch.look()

        task = asyncio.ensure_future(
            source.follow(lambda found: heard.append([one.address for one in found]))
        )
        await clock.advance(0)
        assert heard == [["a:1"]]
        path.write_text("a:1\nb:22\n")
        await looked(2)
        assert heard[1:] == [["a:1", "b:22"]]
        path.write_text("")
        await looked(2)
        assert len(heard) == 2
        assert isinstance(events[-1], FileUnusable)
        assert source.problem == f"{path} names no endpoint"
        path.write_text("c:333\n")
        await looked(2)
        assert (source.problem, heard[-1]) == ("", ["c:333"])
        source.hurry()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(scenario)


def test_a_file_that_cannot_be_used_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        FileSource(tmp_path / "none", clock=FakeClock(), observer=lambda _event: None)
